"""The few numbers of a study agree with the comparison, and DVC shows them in the width of a terminal."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from pipeline.comparison.summary import summarize
from pipeline.comparison.text_chart import metric_chart
from tests.conftest import REAL_PARAMS

ROOT = REAL_PARAMS.parent
METRICS = ROOT / "data/metrics"
NAMES = ["without", "with", "gain", "low", "high", "ratio", "fid"]


@pytest.fixture(scope="module")
def shipped():
    return json.loads((METRICS / "comparison.json").read_text())


def generative(*fids):
    return {"replicates": {str(number): {"fid": fid} for number, fid in enumerate(fids, 1)}}


def test_its_numbers_are_those_of_the_verdict(shipped):
    (judged,) = shipped["budgets"]
    numbers = summarize(shipped, {"1000": generative(0.25, 0.5)})["1000"]
    assert list(numbers) == NAMES
    assert f"{100 * numbers['gain']:.2f}".replace("-", "−") in judged["verdict"]
    best = max(row["test_accuracy"] for row in shipped["arms"] if row["arm"] == judged["best_classic"]["arm"])
    assert numbers["without"] == round(best, 4)
    assert numbers["fid"] == 0.375
    assert numbers["low"] <= numbers["gain"] <= numbers["high"]


def by_macro_f1(**judged):
    """Accuracy says nothing, macro-F1 does."""
    arms = [
        {"budget": 100, "arm": arm, "synthetic_per_real": ratio, "test_accuracy": 0.97}
        | {
            f"test_macro_f1{end}": value + change
            for end, change in (("", 0), ("_low", -0.01), ("_high", 0.01))
        }
        for arm, ratio, value in (("real", 0, 0.6), ("fill_synthetic", 0, 0.7), ("synthetic", 1.0, 0.65))
    ]
    row = {"budget": 100, "mean_difference": 0.05, "low": 0.04, "high": 0.06} | judged
    real, added = (
        {"arm": arm, "synthetic_per_real": ratio} for arm, ratio in (("real", 0), ("synthetic", 1.0))
    )
    main = row | {"best_classic": real, "best_synthetic": added, "recommended": added}
    return {"metric": "macro_f1", "arms": arms, "budgets": [main]}


def test_its_numbers_are_of_the_metric_that_judged_and_say_its_name():
    numbers = summarize(by_macro_f1(), {"100": generative(2.0)})["100"]
    assert numbers == {
        "without_macro_f1": 0.6,
        "with_macro_f1": 0.65,
        "gain": 0.05,
        "low": 0.04,
        "high": 0.06,
        "ratio": 1.0,
        "fid": 2.0,
    }


@pytest.mark.parametrize("key", [lambda arm: {"arm": arm, "synthetic_per_real": 0}, lambda arm: arm])
def test_where_classes_are_rare_the_verdict_on_them_comes_first(key):
    """Whose arms the first versions named without a ratio."""
    comparison = by_macro_f1()
    del comparison["metric"]  # accuracy chooses in the other verdict
    rare = {"budget": 100, "best_remedy": key("real"), "best_synthetic": key("fill_synthetic")}
    rare |= {"mean_difference": 0.1, "low": 0.08, "high": 0.12, "rare_recall": {"mean_difference": 0.3}}
    section = {"metrics": ["test_recall_8", "test_macro_f1"], "arms": comparison["arms"], "budgets": [rare]}
    numbers = summarize(comparison | {"imbalance": section}, {"100": generative()})["100"]
    assert numbers == {
        "without_macro_f1": 0.6,
        "with_macro_f1": 0.7,
        "gain": 0.1,
        "low": 0.08,
        "high": 0.12,
        "rare_recall_gain": 0.3,
    }
    lines = metric_chart(comparison | {"imbalance": section})
    assert lines[0].startswith("test macro-F1, %") and len(lines) == 4
    assert "60.00" in lines[2] and "rare classes + synthetic" in lines[3] and "70.00" in lines[3]
    nothing = section | {"budgets": [rare | {"best_synthetic": None}]}
    assert "without" not in summarize(
        comparison | {"metric": "macro_f1", "imbalance": nothing}, {"100": generative()}
    )


def test_what_was_not_measured_has_no_number(shipped):
    (judged,) = shipped["budgets"]
    kept = {name: judged[name] for name in ("budget", "best_classic")}
    assert list(summarize(shipped | {"budgets": [kept]}, {"1000": generative()})["1000"]) == ["without"]


def test_the_shipped_summary_is_that_of_the_shipped_comparison(shipped):
    scores = json.loads((METRICS / "synthetic/1000.json").read_text())
    assert json.loads((METRICS / "summary.json").read_text()) == summarize(shipped, {"1000": scores})


@pytest.mark.slow
def test_dvc_shows_them_in_120_columns(tmp_path):
    def run(*command):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "120", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(METRICS, tmp_path / "data/metrics")
    dvc = (sys.executable, "-m", "dvc")
    run("git", "init", "--quiet")
    run(*dvc, "init", "--quiet")
    run("git", "add", "--all")
    run("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "before")
    summary = tmp_path / "data/metrics/summary.json"
    numbers = json.loads(summary.read_text())
    summary.write_text(
        json.dumps({"1000": {name: value + 0.0123 for name, value in numbers["1000"].items()}})
    )
    params = yaml.safe_load((tmp_path / "params.yaml").read_text())
    params["gan"]["total_images"] = 250_000
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))

    difference = run(*dvc, "metrics", "diff")
    assert len(difference) == 1 + len(NAMES) and max(map(len, difference)) <= 120
    shown = run(*dvc, "exp", "show", "--only-changed", "--no-pager")
    assert max(map(len, shown)) <= 120 and all(f"1000.{name} " in shown[1] for name in NAMES)
    narrow = run(*dvc, "exp", "show", "--only-changed", "--drop", "Created", "--no-pager")
    assert max(map(len, narrow)) <= 120 and "gan.total_images" in narrow[1]
