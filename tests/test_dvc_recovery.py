"""Killed runs and shared results: the real DVC, with Git and a local remote."""

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from tests.s3_server import client, credentials, s3_server

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
KILLS = 20

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
    here = {
        key: value
        for key, value in os.environ.items()
        # Each stage is a process of its own: without kept bytecode each compiles all that it imports.
        if key not in ("MLFLOW_TRACKING_URI", "SYNTHGAIN_STORE", "PYTHONDONTWRITEBYTECODE")
    }
    return here | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        **{
            f"GIT_{role}_{key}": "test@localhost"
            for role in ("AUTHOR", "COMMITTER")
            for key in ("NAME", "EMAIL")
        },
    }


def make_project(folder: Path) -> Path:
    """A Git repository of this project as it stands here, with params of a study that trains in seconds."""
    folder.mkdir()
    for name in ("pipeline", "stages", "data/own", "data/generated", "own"):
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


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(a project after one whole `dvc repro`, its seconds); its results are in Git and in a remote."""
    folder = tmp_path_factory.mktemp("finished")
    project = make_project(folder / "project")
    start = time.monotonic()
    run(project, "dvc", "repro")
    lasted = time.monotonic() - start
    run(project, "dvc", "remote", "add", "--default", "storage", str(folder / "storage"))
    run(project, "dvc", "remote", "modify", "storage", "verify", "true")
    run(project, "dvc", "push")
    run(project, "git", "add", ".")
    run(project, "git", "commit", "-qm", "results")
    return project, lasted


def test_results_are_shared_through_a_remote_and_a_clone_runs_nothing(finished, tmp_path):
    project, _ = finished
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(project), str(clone))
    assert (clone / "data/metrics/comparison.json").is_file()  # the small tables are in Git
    run(clone, "dvc", "pull")
    assert "Running stage" not in run(clone, "dvc", "repro")
    for path in ("data/report/index.html", "data/synthetic/60/0.npz", "data/export/idx/manifest.json"):
        assert (clone / path).read_bytes() == (project / path).read_bytes()


@pytest.mark.soak
def test_results_are_shared_through_a_bucket_and_a_damaged_object_is_refused(finished, tmp_path, monkeypatch):
    project, team = finished[0], tmp_path / "team"
    shutil.copytree(project, team, symlinks=True)
    with s3_server() as address:
        for name, value in credentials(address).items():
            monkeypatch.setenv(name, value)
        store = client(address)
        store.create_bucket(Bucket="team")
        run(team, "dvc", "remote", "add", "--force", "--default", "storage", "s3://team/synthgain")
        run(team, "dvc", "remote", "modify", "storage", "verify", "true")
        run(team, "dvc", "push")
        assert "in sync" in run(team, "dvc", "status", "--cloud")
        run(team, "git", "commit", "-qam", "the remote is a bucket")
        clone, other = tmp_path / "clone", tmp_path / "other"
        run(tmp_path, "git", "clone", "-q", str(team), str(clone))
        run(clone, "dvc", "pull")
        assert "Running stage" not in run(clone, "dvc", "repro")
        for path in ("data/report/index.html", "data/synthetic/60/0.npz", "data/export/idx/manifest.json"):
            assert (clone / path).read_bytes() == (project / path).read_bytes()

        md5 = hashlib.md5(
            (project / "data/prepared/test.npz").read_bytes(), usedforsecurity=False
        ).hexdigest()
        store.put_object(Bucket="team", Key=f"synthgain/files/md5/{md5[:2]}/{md5[2:]}", Body=b"damaged")
        run(tmp_path, "git", "clone", "-q", str(team), str(other))
        pulled = subprocess.run(
            ["dvc", "pull"], cwd=other, env=environment(), capture_output=True, text=True, check=False
        )
        assert pulled.returncode != 0 and "data/prepared/test.npz" in pulled.stderr, pulled.stderr
        assert (other / "data/prepared/train.npz").exists()
        assert not (other / "data/prepared/test.npz").exists()


def test_a_bare_clone_keeps_what_git_holds(finished, tmp_path):
    project, _ = finished
    held = [path for path in run(project, "git", "ls-files", "data").split() if path != "data/own/README.md"]
    assert {"data/metrics/cells.csv", "data/prepared/splits.json", "data/metrics/gan/60.csv"} <= set(held)
    assert not [path for path in held if path.endswith(".gitignore")]
    for number, arguments in enumerate(
        (
            ["--pull", "--allow-missing"],
            ["--allow-missing"],
            ["--single-item", "evaluate_classifiers"],
            ["--single-item", "compare", "--force"],
        )
    ):
        clone = tmp_path / f"clone{number}"
        run(tmp_path, "git", "clone", "-q", str(project), str(clone))
        said = start_repro(clone, *arguments).communicate()[0]
        assert "Traceback" not in said
        for path in held:
            assert (clone / path).read_bytes() == (project / path).read_bytes(), (arguments, path)
        if "--allow-missing" in arguments:
            assert "Running stage" not in said, said
    # Its data gone, a stage that must run fails and leaves the tables of the last run in place.
    copy = tmp_path / "copy"
    shutil.copytree(project, copy, symlinks=True)
    shutil.rmtree(copy / "data/classifier")
    params = yaml.safe_load((copy / "params.yaml").read_text())
    params["study"]["synthetic_per_real"] = [0, 1.0]
    (copy / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    process = start_repro(copy, "--single-item", "evaluate_classifiers")
    process.communicate()
    assert process.returncode != 0
    assert (copy / "data/metrics/cells.csv").is_file()


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
        env=environment() | {"SHELL": "/bin/sh"},  # on Debian dash, which stays between DVC and the stage
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


def start_repro(folder: Path, *targets: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", *targets],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def results(folder: Path) -> dict[str, bytes]:
    """Every file that the stages made; of a training's history all but how fast it went."""
    found = {}
    for path in sorted((folder / "data").rglob("*")):
        if path.is_file() and path.name != ".gitignore" and "report" not in path.parts:
            content = path.read_bytes()
            if path.parent.name == "gan" and path.suffix == ".csv":
                content = pd.read_csv(path).drop(columns="images_per_second").to_csv().encode()
            found[str(path.relative_to(folder))] = content
    return found


@pytest.mark.soak
def test_a_run_killed_at_random_moments_ends_with_the_bytes_of_an_uninterrupted_one(project, finished):
    whole, lasted = finished
    moments = random.Random(7)
    for _ in range(KILLS):
        # As `make repro` does: a kill may have cut short a file of DVC's own.
        run(project, "synthgain", "doctor", "--fix")
        process = start_repro(project)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=moments.uniform(0, lasted / 4))
        with contextlib.suppress(ProcessLookupError):  # it had ended
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    run(project, "synthgain", "doctor", "--fix")
    run(project, "dvc", "repro")
    assert results(project) == results(whole)
    assert list((project / ".work/unfinished").glob("*")) == []
    left = [path for path in (project / "data").rglob(".*") if path.name != ".gitignore"]
    assert left == []


def test_of_two_runs_at_once_one_is_told_that_the_other_is_at_work(project):
    processes = [start_repro(project, "generate") for _ in range(2)]
    said = [process.communicate(timeout=600)[0] for process in processes]
    ended_well = [process.returncode == 0 for process in processes]
    assert any(ended_well), said
    for process, text in zip(processes, said, strict=True):
        assert "Traceback" not in text
        if process.returncode:
            assert "another DVC process is running" in text or "is busy" in text, text
    # Whatever the second did, the state is that of one whole run.
    assert "Running stage" not in run(project, "dvc", "repro", "generate")


def test_a_stage_started_by_hand_beside_the_same_stage_of_a_run_is_refused(project):
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["gan"]["total_images"] = 640_000
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    process = start_repro(project, "train_gan")
    try:
        wait_for_stage(process.pid, "stages.train_gan")
        deadline = time.monotonic() + 60
        while not list((project / ".work/unfinished").glob("*")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        command = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]["train_gan"]["cmd"]
        beside = subprocess.run(
            [sys.executable, *command.replace("${item}", "--budget 60").split()[1:]],
            cwd=project,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert beside.returncode == 1
    assert "is writing it; wait for it, or stop it" in beside.stderr
    assert "Traceback" not in beside.stderr


SMALL_DISK = """
mkdir .work && mount -t tmpfs -o size=$2k none .work || exit 99
"$1" -m stages.train_gan $3 && exit 98
cp -r .work kept
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a disk of its own")
def test_a_full_disk_keeps_the_last_good_state_and_the_training_goes_on_from_it(project):
    """A disk with room for one state, and not for the next beside it."""
    run(project, "dvc", "repro", "prepare")
    command = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]["train_gan"]["cmd"]
    arguments = command.replace("${item}", "--budget 60").split()[3:]
    stage = [sys.executable, "-m", "stages.train_gan", *arguments]
    run(project, *stage)
    whole = results(project)
    shutil.rmtree(project / ".work")  # the store, which would give the finished GAN back
    shutil.rmtree(project / "data/gan/60")
    kilobytes = str(size_of_a_state(project, stage) * 3 // 2 // 1024)
    shutil.rmtree(project / ".work")
    full = subprocess.run(
        ["unshare", "-rm", "sh", "-c", SMALL_DISK, "sh", sys.executable, kilobytes, " ".join(arguments)],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if full.returncode == 99 or "unshare" in full.stderr:
        pytest.skip("no right to mount a disk here")
    assert full.returncode == 0, full.stderr
    assert "error: the disk is full" in full.stderr and "Traceback" not in full.stderr
    assert list((project / "kept").rglob("state.pt"))
    (project / "kept").rename(project / ".work")
    run(project, *stage)
    assert results(project) == whole


def size_of_a_state(project: Path, stage: list[str]) -> int:
    """The bytes of a training's first state, left by a training that is killed."""
    process = subprocess.Popen(stage, cwd=project, env=environment())
    states: list[Path] = []
    while not states and process.poll() is None:
        time.sleep(0.01)
        states = list((project / ".work").rglob("state.pt"))
    process.kill()
    process.wait()
    return states[0].stat().st_size


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
