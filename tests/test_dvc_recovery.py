"""Killed runs and shared results: the real DVC, with Git and a local remote."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

TINY = {
    "data": {"source": "digits", "image_size": 8, "validation_images": 100},
    "study": {
        "real_images": [60],
        "replicates": 1,
        "synthetic_per_real": [1.0],
        "arms": ["real", "real_affine", "synthetic", "synthetic_affine", "synthetic_only", "extra_real"],
    },
    "gan": {
        "generator_channels": [8, 4],
        "discriminator_channels": [4, 8, 8],
        "total_images": 640,
        "batch_size": 32,
    },
    "generation": {"images_per_class": 30},
    "extractor": {"channels": 8, "feature_dim": 16, "steps": 20},
    "classifier": {"channels": 4, "steps": 10},
    "evaluation": {"images": 100},
    "export": {"allow_memorized": True},  # what so small a GAN draws is no question here
    "execution": {"threads": 1},
}


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def environment() -> dict[str, str]:
    here = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return here | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        **{
            f"GIT_{role}_{key}": "test@localhost"
            for role in ("AUTHOR", "COMMITTER")
            for key in ("NAME", "EMAIL")
        },
    }


@pytest.fixture
def project(tmp_path):
    """A Git clone of this project as it stands here, with params of a study that trains in seconds."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("pipeline", "stages", "data/own"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copyfile(ROOT / name, folder / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in TINY.items():
        params[section] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    return folder


def test_results_are_shared_through_a_remote_and_a_clone_runs_nothing(project, tmp_path):
    run(project, "dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    run(project, "dvc", "remote", "modify", "storage", "verify", "true")
    run(project, "dvc", "repro")
    run(project, "dvc", "push")
    run(project, "git", "add", ".")
    run(project, "git", "commit", "-qm", "results")

    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(project), str(clone))
    assert (clone / "data/metrics/comparison.json").is_file()  # the small tables are in Git
    run(clone, "dvc", "pull")
    assert "Running stage" not in run(clone, "dvc", "repro")
    for path in ("data/report/index.html", "data/synthetic/60/0.npz", "data/export/idx/manifest.json"):
        assert (clone / path).read_bytes() == (project / path).read_bytes()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a stage is tied to its DVC on Linux")
@pytest.mark.parametrize("who", ["dvc alone", "the whole group"])
def test_a_killed_run_leaves_no_orphan_and_nothing_half_written_and_goes_on(project, who):
    """SIGKILL in the middle of the GAN training, then the same command again."""
    text = (project / "params.yaml").read_text()
    long_training = yaml.safe_load(text)
    long_training["gan"]["total_images"] = 640_000
    (project / "params.yaml").write_text(yaml.safe_dump(long_training, sort_keys=False))
    process = subprocess.Popen(
        ["dvc", "repro", "train_gan"],
        cwd=project,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    stage = wait_for_stage(process.pid, "stages.train_gan")
    time.sleep(2)  # into the loop
    if who == "dvc alone":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert ended(stage), f"{stage}: parent {stage.ppid()}, group {os.getpgid(stage.pid)}"
    assert not (project / "data/gan/60").exists()

    (project / "params.yaml").write_text(text)
    output = run(project, "dvc", "repro", "train_gan")
    assert re.findall(r"Running stage '([^']+)'", output) == ["train_gan@60"]  # what had finished is kept
    assert [path.name for path in (project / "data/gan").iterdir() if path.name != ".gitignore"] == ["60"]


def wait_for_stage(parent: int, module: str) -> psutil.Process:
    """The process of a stage below DVC, once it is there."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        for child in psutil.Process(parent).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # ended between the listing and the look
                if module in child.cmdline():
                    return child
        time.sleep(0.1)
    raise AssertionError(f"{module} did not start")


def ended(stage: psutil.Process) -> bool:
    """Whether a process ends within a minute: killed while it starts, it ends as soon as it can look.

    An orphan that has ended stays a zombie until whoever adopted it collects it, which may take long.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            if stage.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.1)
                continue
        return True
    return False
