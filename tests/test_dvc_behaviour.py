"""What re-runs when: the real DVC on the real pipeline, with a study small enough to train in seconds."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.maintenance.workspace import create_workspace

pytestmark = pytest.mark.slow

TINY = {
    "data": {"source": "digits", "image_size": 8, "validation_images": 100},
    "study": {
        "real_images": [60],
        "replicates": 2,
        "synthetic_per_real": [0.5, 1.0],
        "arms": ["real", "real_affine", "synthetic", "synthetic_affine", "synthetic_only", "extra_real"],
    },
    "gan": {
        "z_dim": 8,
        "generator_channels": [8, 4],
        "discriminator_channels": [4, 8, 8],
        "total_images": 640,
        "batch_size": 32,
        "history_points": 4,
        "film_strip_frames": 3,
    },
    "generation": {"images_per_class": 30},
    "extractor": {"channels": 8, "feature_dim": 16, "steps": 40, "batch_size": 32},
    "classifier": {"channels": 4, "feature_dim": 16, "steps": 20, "batch_size": 16},
    "evaluation": {"images": 100},
    "report": {"grid_images_per_class": 4},
    "export": {"allow_memorized": True},  # what so small a GAN draws is no question here
    "execution": {"threads": 1},
}


def environment() -> dict[str, str]:
    return {
        **{
            key: value
            for key, value in os.environ.items()
            if key not in ("MLFLOW_TRACKING_URI", "SYNTHGAIN_STORE", "PYTHONDONTWRITEBYTECODE")
        },
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }


def dvc(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def ran(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def change_params(folder: Path, section: str, **values: object) -> None:
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params[section] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace after one whole `dvc repro`."""
    folder = tmp_path_factory.mktemp("dvc")
    changes = folder / "tiny.yaml"
    changes.write_text(yaml.safe_dump(TINY))
    create_workspace(folder / "workspace", changes=changes)
    output = dvc(folder / "workspace", "repro")
    assert {stage.split("@")[0] for stage in ran(output)} == set(
        yaml.safe_load((folder / "workspace/dvc.yaml").read_text())["stages"]
    )
    return folder / "workspace"


def test_every_declared_cell_is_in_the_table_with_equal_training(workspace):
    cells = pd.read_csv(workspace / "data/metrics/cells.csv")
    assert len(cells) == 2 * (2 + 2 * (3 + 1))  # replicates × (baselines + ratios × (augmented + controls))
    assert cells.optimizer_steps.unique().tolist() == [20]
    assert cells.batch_size.unique().tolist() == [16]
    assert (cells.groupby("replicate").real_subset_sha256.nunique() == 1).all()
    assert cells.real_subset_sha256.nunique() == 2


def test_metrics_show_and_diff_speak_of_the_results(workspace):
    shown = json.loads(dvc(workspace, "metrics", "show", "--json"))
    (values,) = json.loads(json.dumps(shown))[""]["data"].values()
    assert values["data"] == json.loads((workspace / "data/metrics/summary.json").read_text())


def test_a_repeat_runs_nothing(workspace):
    assert ran(dvc(workspace, "repro")) == set()


def test_a_change_of_the_gan_leaves_the_baselines_alone(workspace):
    before = (workspace / "params.yaml").read_text()
    change_params(workspace, "gan", beta2=0.9)
    planned = ran(dvc(workspace, "repro", "--dry"))
    (workspace / "params.yaml").write_text(before)
    assert "train_gan@60" in planned
    assert not {stage for stage in planned if re.search("baselines|controls|extractor", stage)}


@pytest.fixture
def finished(workspace, tmp_path):
    """A copy of the finished workspace, for one test; before another test changes the workspace."""
    folder = tmp_path / "copy"
    # Without MLflow's store: it names the folder it was made in, and refuses to write from another one.
    shutil.copytree(
        workspace, folder, symlinks=True, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts")
    )
    return folder


def insert(file: Path, before: str, row: str) -> None:
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, row + before))


@pytest.mark.soak  # two minutes
def test_a_made_up_arm_and_policy_train_and_score_only_themselves(finished):
    insert(
        finished / "pipeline/study/arms.py",
        "    # For a real subset with rare classes",
        '    Arm("real", "elastic"),\n',
    )
    insert(
        finished / "pipeline/study/arms.py",
        "    # At every ratio above 0, with other images",
        '    Arm("real_and_synthetic", "elastic", fresh=True),\n',
    )
    insert(
        finished / "pipeline/augmentation/policies.py",
        '    "affine_elastic": (',
        '    "elastic": ("elastic",),\n',
    )
    arms = [*TINY["study"]["arms"], "real_elastic", "synthetic_fresh_elastic"]
    change_params(finished, "study", arms=arms)
    status = dvc(finished, "status")
    for name in ("train_gan", "generate", "evaluate_synthetic"):
        assert name not in status
    output = dvc(finished, "repro")
    assert not {"train_gan@60", "generate@60", "evaluate_synthetic@60", "train_extractor"} & ran(output)
    found = computed(output)
    # Two replicates: one new baseline beside two; at both ratios one new arm beside three, and no new control.
    assert found["baselines, 60 real"] == (2, 4)
    for ratio in ("0.5", "1.0"):
        assert found[f"{ratio} synthetic per real, 60 real"] == (2, 6)
        assert found[f"{ratio} others per real, 60 real"] == (0, 2)
    assert found["cells"] == (2 + 2 * 2, 4 + 2 * (6 + 2))
    cells = pd.read_csv(finished / "data/metrics/cells.csv")
    assert set(cells.arm) == set(arms)
    comparison = json.loads((finished / "data/metrics/comparison.json").read_text())
    (row,) = [
        row
        for row in comparison["comparisons"]
        if (row["candidate"], row["synthetic_per_real"], row["metric"])
        == ("synthetic_fresh_elastic", 0.5, "test_accuracy")
    ]
    assert row["baseline"] == "real_elastic"
    page = (finished / "data/report/index.html").read_text()
    assert "real + fresh synthetic, elastic" in page


def test_a_ratio_an_arm_or_a_replicate_more_or_less_scores_no_cell_again(finished):
    fewer = {"arms": [arm for arm in TINY["study"]["arms"] if arm != "synthetic_affine"]}
    scored = {}
    for name, changes in {
        "a ratio and an arm less, the ratio in other words": {"synthetic_per_real": [1], **fewer},
        "both again, a replicate more": {
            "synthetic_per_real": [1, 0.5],
            "arms": TINY["study"]["arms"],
            "replicates": 3,
        },
    }.items():
        change_params(finished, "study", **changes)
        found = computed(dvc(finished, "repro", "evaluate_classifiers"))
        scored[name] = found["cells"][0]
        trained = sum(new for label, (new, _) in found.items() if label != "cells")
        if "replicate" not in name:
            assert (name, trained) == (name, 0)
    # Of the new replicate: a GAN, two baselines, and at both ratios three arms and a control.
    assert found["GANs of 60 real images"] == (1, 2)
    assert trained == 1 + 2 + 2 * (3 + 1)
    assert list(scored.values()) == [0, 2 + 2 * (3 + 1)]
    assert set(pd.read_csv(finished / "data/metrics/cells.csv").synthetic_per_real) == {0, 0.5, 1}


@pytest.mark.soak  # the one above adds a ratio, too
def test_a_new_ratio_runs_its_own_stages_only_and_a_removed_one_leaves_every_table(workspace):
    change_params(workspace, "study", synthetic_per_real=[0, 1.0, 2.0])
    # 0 is real only: its stage has nothing to train and its cells are the baselines'.
    assert ran(dvc(workspace, "repro")) == {
        "prepare",  # looks whether enough is generated, and writes the same files
        "train_augmented@60-2.0",
        "train_controls@60-2.0",
        "train_augmented@60-0",
        "train_controls@60-0",
        "evaluate_classifiers",
        "compare",
        "report",
        "export",
        "track",
    }
    assert (workspace / "data/classifier/60/augmented/0.5.safetensors").is_file()  # stale, and not read
    cells = pd.read_csv(workspace / "data/metrics/cells.csv")
    assert set(cells.synthetic_per_real) == {0, 1.0, 2.0}
    comparison = json.loads((workspace / "data/metrics/comparison.json").read_text())
    assert {arm["synthetic_per_real"] for arm in comparison["arms"]} == {0, 1.0, 2.0}
    page = (workspace / "data/report/index.html").read_text()
    assert "2.0" in page and not re.search(r">\s*0\.5\s*</t[dh]>", page)
    runs = tracked_runs(workspace)
    assert set(runs) == {"0", "1", "2"}


def computed(output: str) -> dict[str, tuple[int, int]]:
    """(computed, found in the store) of each line of a log that counts."""
    counted = re.findall(
        r"^(.*?)(?:: (\d+) (?:classifiers? )?(?:trained|scored), (\d+) found finished)$", output, re.MULTILINE
    )
    return {label: (int(new), int(old)) for label, new, old in counted}


def tracked_runs(workspace: Path) -> list[str]:
    """The ratios of the cells that MLflow shows, read in a process of its own."""
    code = (
        "import mlflow, json; mlflow.set_tracking_uri('sqlite:///mlflow.db');"
        "runs = mlflow.search_runs(search_all_experiments=True, filter_string=\"tags.kind = 'cell'\");"
        "print(json.dumps(runs['params.synthetic_per_real'].tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=workspace,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
