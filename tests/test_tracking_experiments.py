"""MLflow beside the real DVC and Git: experiments in a copy, branches, clones."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from pipeline.checkpoints import file_sha256
from pipeline.maintenance.workspace import create_workspace

pytestmark = [pytest.mark.slow, pytest.mark.soak]  # seven minutes on two cores

ROOT = Path(__file__).parents[1]
TINY = {
    "data": {"source": "digits", "image_size": 8, "validation_images": 100},
    "study": {
        "real_images": [60],
        "replicates": 1,
        "synthetic_per_real": [1.0],
        "arms": ["real", "synthetic", "synthetic_only"],
    },
    "gan": {
        "z_dim": 8,
        "generator_channels": [8, 4],
        "discriminator_channels": [4, 8, 8],
        "total_images": 320,
        "batch_size": 32,
        "history_points": 4,
        "film_strip_frames": 2,
    },
    "generation": {"images_per_class": 12},
    "extractor": {"channels": 4, "feature_dim": 8, "steps": 8, "batch_size": 32},
    "classifier": {"channels": 4, "feature_dim": 8, "steps": 4, "batch_size": 16},
    "evaluation": {"images": 100},
    "report": {"grid_images_per_class": 2},
    "export": {"formats": ["idx"], "allow_memorized": True},
    "execution": {"device": "cpu", "precision": "float32", "threads": 1},
}
RUNS = 1 + 1 + 3 + 1 + 3  # the parent, a summary, three curves, a GAN, three cells
NAME = "synthgain-digits"


def run(folder: Path, *command: str, status: int = 0) -> str:
    others = ("MLFLOW", "DVC", "PYTHONDONTWRITEBYTECODE")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    environment = inherited | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def dvc(folder: Path, *arguments: str) -> str:
    return run(folder, sys.executable, "-m", "dvc", *arguments)


def git(folder: Path, *arguments: str) -> str:
    return run(folder, "git", "-c", "user.name=A", "-c", "user.email=a@b", *arguments)


def track(folder: Path, *options: str, status: int = 0) -> str:
    return run(folder, sys.executable, "-m", "stages.track", *options, status=status)


def shown(folder: Path, experiment: str = NAME) -> tuple[dict[str, str], dict[str, str]]:
    """({key: id of the run}, the tags of the champion)"""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db", registry_uri=f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    champion = client.get_model_version_by_alias(experiment, "champion")
    return {run.data.tags["synthgain.key"]: run.info.run_id for run in runs}, dict(champion.tags)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository of Git and DVC after one `dvc repro`, pushed to a remote."""
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    create_workspace(folder / "study", changes=folder / "tiny.yaml")
    study = folder / "study"
    shutil.copyfile(ROOT / ".gitignore", study / ".gitignore")
    (study / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    git(study, "init", "--quiet", "--initial-branch", "main")
    git(study, "config", "user.name", "A")
    git(study, "config", "user.email", "a@b")
    dvc(study, "config", "--unset", "core.no_scm")
    dvc(study, "remote", "add", "--default", "storage", str(folder / "remote"))
    git(study, "add", "--all")
    git(study, "commit", "--quiet", "-m", "code")
    dvc(study, "repro")
    git(study, "add", "--all")
    git(study, "commit", "--quiet", "-m", "results")
    dvc(study, "push")
    return study


def test_an_experiment_in_a_copy_leaves_the_workspace_alone_and_a_branch_of_it_is_told_apart(repository):
    before = shown(repository)
    assert len(before[0]) == RUNS
    dvc(repository, "exp", "run", "--temp", "--name", "longer", "-S", "classifier.steps=5")
    assert shown(repository) == before
    assert track(repository, "--check") == f"MLflow: all {RUNS} runs are those of data/\n"
    runs, champion = shown(repository, f"{NAME}-longer")
    assert runs.keys() == before[0].keys() and not set(runs.values()) & set(before[0].values())
    assert champion["generator_sha256"] == before[1]["generator_sha256"]  # the GAN is the same
    assert champion["protocol"] != before[1]["protocol"]  # and the classifier is another
    client = MlflowClient(f"sqlite:///{repository}/mlflow.db")
    tags = client.get_run(runs["study"]).data.tags
    assert tags["dvc.lock_sha256"] != file_sha256(repository / "dvc.lock")

    dvc(repository, "exp", "branch", "longer", "longer")
    git(repository, "checkout", "--quiet", "longer")
    dvc(repository, "checkout")
    assert "Running stage" not in dvc(repository, "repro")
    said = track(repository, "--check", status=1)
    found = re.fullmatch(rf"MLflow: (\d) of {RUNS} runs are not those of data/; (.*) mends it\n", said)
    assert found[2] == "`synthgain stage track`"
    # The parent and the cells; summary and curves, if so short a training changes any accuracy; not the GAN.
    other = int(found[1])
    assert 1 + 3 <= other <= RUNS - 1
    assert f"{other} runs created, {RUNS - other} kept, {other} removed" in track(repository)
    assert track(repository, "--check") == f"MLflow: all {RUNS} runs are those of data/\n"
    git(repository, "checkout", "--quiet", "main")
    dvc(repository, "checkout")
    track(repository, "--check", status=1)


def test_a_fresh_clone_with_pulled_results_is_told_that_its_mlflow_is_empty(repository, tmp_path):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--branch", "main", str(repository), str(clone))
    assert "no such file" in run(clone, "synthgain", "doctor", status=0).partition("MLflow study")[2]
    dvc(clone, "pull")
    what = f"{RUNS} of {RUNS} runs are not those of data/; `synthgain stage track` mends it"
    doctor = run(clone, "synthgain", "doctor", status=1)
    assert f"MLflow: {what}" in doctor and doctor.splitlines()[-1] == "1 finding"
    assert track(clone, "--check", status=1) == f"MLflow: {what}\n"
    assert not (clone / "mlflow.db").exists()
    track(clone)
    assert track(clone, "--check") == f"MLflow: all {RUNS} runs are those of data/\n"
    assert run(clone, "synthgain", "doctor").splitlines()[-1] == "nothing wrong"
