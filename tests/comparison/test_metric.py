"""The metric that a study asks for chooses and judges everywhere; a majority class of 96 % does not."""

import io
import json

import pandas as pd
import pytest
from rich.console import Console

from pipeline.comparison.cells import load_cells, load_confusion
from pipeline.comparison.rare_classes import counts_on_test, natural_rare_classes
from pipeline.comparison.verdict import verdict_table
from pipeline.errors import SynthGainError
from pipeline.params import load_params
from pipeline.results import load_results
from pipeline.study.grid import DeclaredArm
from pipeline.tracking.champion import find_candidate

CLASSES = {"sound": 96, "cracked": 2, "broken": 2}
ARMS = ("real", "real_affine", "synthetic", "synthetic_affine", "synthetic_only")
SPREAD = [0.0, 0.001, -0.001, 0.0005]


@pytest.fixture
def unequal(write_study):
    """Synthetic images raise accuracy by a point and lower balanced accuracy by ten; affine does the reverse."""
    files = write_study(arms=ARMS, ratios=(1.0,), replicates=4, class_names=tuple(CLASSES))
    cells = pd.read_csv(files.cells)
    synthetic = cells["synthetic_per_real"] > 0
    affine = cells["classic_augmentation"] == "affine"
    spread = cells["replicate"].map(dict(enumerate(SPREAD, start=1)))
    values = {
        "accuracy": 0.96 + 0.01 * synthetic - 0.02 * affine + spread,
        "balanced_accuracy": 0.60 - 0.10 * synthetic + 0.05 * affine + spread,
        "macro_f1": 0.50 - 0.10 * synthetic + 0.05 * affine + 2 * spread,
    }
    for name, value in values.items():
        value += 0.2 * synthetic * spread
        for column in (f"validation_{name}", f"validation_few_{name}", f"test_{name}"):
            cells[column] = value.round(6)
    cells.to_csv(files.cells, index=False)
    confusion = pd.read_csv(files.confusion)
    total = confusion.groupby(["arm", "synthetic_per_real", "replicate", "actual"])["count"].transform("sum")
    confusion["count"] = (
        (confusion["count"] / total * 50 * confusion["actual"].map(CLASSES)).round().astype(int)
    )
    confusion.to_csv(files.confusion, index=False)
    return files


def compared(files, metric):
    return json.loads(files.declare(metric=metric).comparison.read_text())


def test_the_verdict_is_that_of_the_metric_which_was_asked_for(unequal):
    by_accuracy = compared(unequal, "accuracy")
    (row,) = by_accuracy["budgets"]
    assert (row["code"], row["recommended"]["arm"], row["best_classic"]["arm"]) == (
        "gain",
        "synthetic",
        "real",
    )
    assert "metric" not in by_accuracy  # as it always was
    for metric, words in (("balanced_accuracy", "balanced accuracy"), ("macro_f1", "macro-F1")):
        found = compared(unequal, metric)
        (row,) = found["budgets"]
        assert found["metric"] == metric
        assert (row["code"], row["recommended"]["arm"]) == ("harm", "real_affine")
        assert row["best_synthetic"]["arm"] == "synthetic_affine"
        assert row["mean_difference"] == pytest.approx(-0.10, abs=1e-4)
        assert f"−10.00 points of test {words} on top of affine" in row["verdict"]
        assert {each["metric"] for each in found["comparisons"]} == {
            f"test_{metric}",
            "test_accuracy",
            "test_macro_f1",
        }
        for arm in found["arms"]:
            assert arm[f"test_{metric}_low"] <= arm[f"test_{metric}"] <= arm[f"test_{metric}_high"]
        terminal = io.StringIO()
        Console(file=terminal, width=80).print(verdict_table(found))
        assert f"test {words} in %" in " ".join(terminal.getvalue().split())


def test_classes_that_are_rare_by_nature_have_rows_and_accuracy_is_warned_of(unequal):
    confusion = load_confusion(unequal.confusion, unequal.grid)
    assert counts_on_test(confusion).to_dict() == {"sound": 4800, "cracked": 100, "broken": 100}
    assert natural_rare_classes(confusion) == {"cracked": 0.0208, "broken": 0.0208}
    by_accuracy, balanced = compared(unequal, "accuracy"), compared(unequal, "balanced_accuracy")
    for found in (by_accuracy, balanced):
        section = found["imbalance"]
        assert section["classes"] == {"cracked": 0.0208, "broken": 0.0208}
        assert section["budgets"] == []  # no arm fills them
        rows = {(row["candidate"], row["metric"]) for row in section["comparisons"]}
        assert {("synthetic", "test_recall_cracked"), ("real_affine", "test_rare_recall")} < rows
    warning = "the largest has 96 % of the test images"
    assert (
        warning in by_accuracy["unequal_classes"] and by_accuracy["unequal_classes"] in by_accuracy["reading"]
    )
    assert "unequal_classes" not in balanced and warning not in balanced["verdict"]


def test_a_table_without_the_metric_is_refused_with_what_makes_it(write_study):
    files = write_study()
    with pytest.raises(
        SynthGainError, match=r"cells.csv: no column validation_balanced_accuracy, test_balanced"
    ):
        files.declare(metric="balanced_accuracy")
    assert files.declare(metric="macro_f1")  # which every table has


def test_results_page_champion_and_mlflow_go_by_it(unequal, tmp_path):
    files = unequal.declare(metric="balanced_accuracy")
    study = load_params(files.params).study
    data = files.root / "data"
    results = load_results(files.folders, study)
    assert results.grid.metric == "balanced_accuracy"
    assert results.budgets[0].recommended == DeclaredArm("real_affine", 0)
    generator = tmp_path / "generator"
    generator.write_bytes(b"weights")
    found = {}
    for metric in ("balanced_accuracy", "accuracy"):
        params = load_params(unequal.declare(metric=metric).params)
        found[metric] = find_candidate(
            params,
            cells=files.cells,
            splits=data / "prepared/splits.json",
            generator=generator,
            budget="60",
        )
    assert found["balanced_accuracy"].cas == pytest.approx(0.50, abs=1e-4)
    assert found["accuracy"].cas == pytest.approx(0.97, abs=1e-4)
    assert found["balanced_accuracy"].protocol != found["accuracy"].protocol


def test_arms_that_fill_have_a_verdict_without_an_imbalance_that_was_made(write_study):
    arms = ("real", "fill_repeat", "fill_synthetic")
    files = write_study(arms=arms, ratios=(0,), replicates=4, imbalance={"2": 0.5})
    changed = files.declare(imbalance={}, fill_to="largest")
    section = json.loads(changed.comparison.read_text())["imbalance"]
    (row,) = section["budgets"]
    assert row["verdict"].startswith(
        "With 60 real images and as the smallest class 0 (100 % of the largest), "
    )
    assert {each["candidate"] for each in section["comparisons"]} == {"fill_repeat", "fill_synthetic"}
    assert load_cells(changed.cells, changed.grid)[1] == 0
