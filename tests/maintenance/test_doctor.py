"""`synthgain doctor`: it finds what is planted, says how to mend it, and is silent where nothing is wrong."""

import functools
import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import CliRunner

from pipeline.maintenance import environment as environment_module
from pipeline.maintenance.doctor import (
    examine,
    mirrored_results,
    raw_data,
    read_params,
    stale_cells,
    unfinished_runs,
)
from pipeline.maintenance.dvc_objects import dvc_objects
from pipeline.maintenance.dvc_state import dvc_files
from pipeline.maintenance.environment import environment, torch_pair
from pipeline.maintenance.half_written import held_locks
from pipeline.maintenance.processes import orphans, running_commands, running_stages
from pipeline.params import load_params
from pipeline.tracking.mirror import mirror
from pipeline.tracking.planned_runs import PlannedRun
from pipeline.tracking.store import find_store
from synthgain.app import app
from tests.conftest import write_empty_generator

ROOT = Path(__file__).parents[2]
DVC_YAML = """
stages:
  one:
    cmd: mkdir data && printf one > data/one.txt
    outs: [data/one.txt]
  many:
    cmd: mkdir -p data/many/b && cd data/many && printf 1 > a.txt && printf 2 > b/c.txt && printf 3 > b.txt
    deps: [data/one.txt]
    outs: [data/many]
  table:
    cmd: printf x,y > data/table.csv
    deps: [data/many]
    outs:
    - data/table.csv:
        cache: false
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository after a run of the real DVC."""
    folder = tmp_path_factory.mktemp("dvc")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    code = (
        "from dvc.repo import Repo; repo = Repo.init('.', no_scm=True);"
        "repo.config['core']['analytics'] = False; repo.reproduce()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(made, tmp_path):
    shutil.copytree(made, tmp_path / "project")
    return tmp_path / "project"


def cached(project: Path, content: bytes) -> Path:
    """The cache object of some bytes."""
    (path,) = (
        path
        for path in (project / ".dvc/cache/files/md5").rglob("*")
        if path.is_file() and path.read_bytes() == content
    )
    return path


def damage(path: Path) -> None:
    """Other bytes, and read-only as DVC leaves its objects: DVC trusts it."""
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    path.chmod(0o444)


def test_what_a_run_left_is_sound(project):
    check = dvc_objects(project)
    assert not check.findings
    assert check.seen == "4 cache objects and 5 files of 3 outputs hashed"


def test_a_damaged_object_is_found_though_it_is_read_only(project):
    path = cached(project, b"2")
    damage(path)
    (found,) = dvc_objects(project).findings
    assert found.where == str(path)
    assert "damaged" in found.problem and "data/many/b/c.txt of many" in found.problem
    assert found.remedy.startswith(f"`rm -f {path} {project / 'data/many/b/c.txt'}`")


def test_a_damaged_list_of_a_folder_is_found(project):
    (listing,) = (project / ".dvc/cache/files/md5").rglob("*.dir")
    damage(listing)
    (found,) = dvc_objects(project).findings
    assert found.where == str(listing) and "data/many of many" in found.problem


def test_a_damaged_object_and_its_file_are_one_finding(project):
    damage(cached(project, b"one"))
    (project / "data/one.txt").write_text("on?")
    assert len(dvc_objects(project).findings) == 1


@pytest.mark.parametrize(
    "path, remedy",
    [
        ("data/one.txt", "dvc checkout --force data/one.txt"),
        ("data/many/b/c.txt", "dvc checkout --force data/many/b/c.txt"),
        ("data/table.csv", "dvc repro"),
    ],
)
def test_an_output_that_was_edited_is_found(project, path, remedy):
    (project / path).write_text("mine")
    (found,) = dvc_objects(project).findings
    assert found.where == path and remedy in found.remedy
    assert ("checkout" in found.remedy) == ("checkout" in remedy)


def test_without_a_cache_the_workspace_is_checked_against_the_lock(project):
    shutil.rmtree(project / ".dvc/cache")
    assert not dvc_objects(project).findings
    (project / "data/many/b/c.txt").write_text("mine")
    (found,) = dvc_objects(project).findings
    assert found.where == "data/many"


def test_a_bare_clone_is_no_fault(project):
    shutil.rmtree(project / ".dvc/cache")
    shutil.rmtree(project / "data")
    check = dvc_objects(project)
    assert not check.findings and "3 outputs are not here" in check.seen


def test_a_lock_file_that_is_none(project):
    (project / "dvc.lock").write_text("stages: [")
    (found,) = dvc_objects(project).findings
    assert found.where.endswith("dvc.lock") and "not readable" in found.problem


def test_a_file_of_dvc_that_a_kill_cut_short(project):
    assert not dvc_files(project).findings
    (project / "dvc.lock").write_text("")
    (found,) = dvc_files(project).findings
    assert found.where == "dvc.lock" and found.remedy == "`synthgain doctor --fix`"


# --- the environment ---


@pytest.mark.parametrize(
    "torch, torchvision, problem",
    [
        ("2.14.1+cu130", "0.29.1+cu130", None),
        ("2.14.1", "0.29.0", None),
        ("2.13.0", "0.29.1", "which was built for torch 2.14"),
        ("2.14.1+cpu", "0.29.1+cu130", "builds of different families"),
        ("2.14.1", "", None),  # not there: the import says so
    ],
)
def test_versions_that_do_not_belong_together(torch, torchvision, problem):
    found = torch_pair(torch, torchvision)
    assert len(found) == (problem is not None)
    assert all(problem in finding.problem for finding in found)


def with_params(**execution):
    params = load_params(ROOT / "params.yaml")
    return params.model_copy(update={"execution": params.execution.model_copy(update=execution)})


def test_the_environment_is_judged_by_what_the_parameters_ask_for(monkeypatch, tmp_path):
    import torch

    assert not environment(with_params(threads=0), tmp_path).findings
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(environment_module, "available_cores", lambda: 2)
    monkeypatch.setattr(environment_module, "_LEAST_FREE_BYTES", 10**18)
    found = environment(with_params(device="cuda", threads=3), tmp_path).findings
    assert [finding.where for finding in found] == [
        "execution.device",
        "execution.threads",
        f"disk of {tmp_path}",
    ]


def test_a_torchvision_that_does_not_load_is_a_finding(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    (found,) = environment(with_params(), tmp_path).findings
    assert found.where == "torchvision" and "make install" in found.remedy


@pytest.mark.parametrize(
    "missing, importer",
    [("torchvision", "pipeline.sources.published"), ("mlflow", "pipeline.tracking.mirror")],
)
def test_a_broken_library_stops_no_other_check(project, monkeypatch, missing, importer):
    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    (project / "data/raw").mkdir()
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, importer, raising=False)
    checks = list(examine(project, project / "params.yaml"))
    assert [check.name for check in checks][-1] == "MLflow runs"
    assert {finding.where for check in checks for finding in check.findings} >= {missing}


# --- data, cells, processes, MLflow ---


def test_raw_files_are_held_against_the_published_checksums(tmp_path):
    params = load_params(ROOT / "params.yaml")
    assert "not there yet" in raw_data(tmp_path, params).seen
    raw = tmp_path / "data/raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"nothing of the kind")
    found = raw_data(tmp_path, params).findings
    assert [finding.where.rpartition("/")[2] for finding in found] == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ]
    assert "altered or truncated" in found[0].problem and "not there" in found[1].problem


def under_dvc(root):
    """The project's own stages, in a repository that DVC can open."""
    shutil.copyfile(ROOT / "dvc.yaml", root / "dvc.yaml")
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    no_scm = True\n")


def test_cells_that_are_no_longer_declared(write_study):
    files = write_study(ratios=(0.5, 1.0), replicates=2)
    under_dvc(files.root)
    folder = files.root / "data/classifier/60"
    for kind in ("augmented", "controls"):
        (folder / kind).mkdir(parents=True)
        for ratio in ("0.5", "1.0"):
            (folder / kind / f"{ratio}.safetensors").touch()
    for name in ("baselines", "fill"):  # every stage's outputs, whichever stages there are
        (folder / f"{name}.safetensors").touch()
    assert not stale_cells(files.root, load_params(files.params)).findings
    values = yaml.safe_load(files.params.read_text())
    values["study"] |= {"synthetic_per_real": [1.0], "replicates": 1}
    values["export"]["replicate"] = 1
    files.params.write_text(yaml.safe_dump(values))
    found = {
        (finding.where, finding.problem.split(",")[0])
        for finding in stale_cells(files.root, load_params(files.params)).findings
    }
    assert ("data/metrics/cells.csv", "1 rows of budget 60") in found  # replicate 2 of what is declared
    assert ("data/metrics/cells.csv", "2 rows of budget 60") in found  # ratio 0.5
    files_found = {where for where, _ in found} - {"data/metrics/cells.csv"}
    assert files_found == {f"data/classifier/60/{kind}/0.5.safetensors" for kind in ("augmented", "controls")}


def test_files_of_a_budget_that_is_no_longer_declared(write_study):
    files = write_study(budgets=(60, 90), replicates=1)
    under_dvc(files.root)
    files.declare(real_images=[60])
    places = {finding.where for finding in stale_cells(files.root, load_params(files.params)).findings}
    assert places == {
        "data/metrics/cells.csv",
        "data/metrics/gan/90.csv",
        "data/metrics/collapsed/90.json",
        "data/metrics/synthetic/90.json",
        "data/gan/90",
        "data/synthetic/90",
    }


@pytest.fixture
def started():
    """Start processes that print a line and wait; they end with the test."""
    processes = []

    def start(command, folder, **environment):
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": "", **environment}, stdout=subprocess.PIPE
        )
        processes.append(process)
        assert process.stdout.readline() == b"here\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def sleeper(tmp_path, started):
    """A stage of a folder that runs without DVC."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/idle.py").write_text("import time; print('here', flush=True); time.sleep(60)")
    return functools.partial(started, [sys.executable, "-m", "stages.idle"], tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others do not show environments")
def test_a_stage_whose_dvc_has_ended_is_an_orphan_and_one_started_by_hand_is_none(tmp_path, sleeper):
    assert running_stages(tmp_path) == []
    by_hand = sleeper()
    orphan = sleeper(DVC_STAGE="idle")
    running = running_stages(tmp_path)
    assert {stage.pid for stage in running} == {by_hand.pid, orphan.pid}
    (found,) = orphans(running).findings
    assert found.where == "stages.idle" and found.remedy == f"`kill {orphan.pid}`"
    orphan.kill()
    deadline = time.monotonic() + 10
    while len(running_stages(tmp_path)) > 1:  # a zombie counts as ended
        assert time.monotonic() < deadline
    assert not running_stages(tmp_path.parent)
    assert running_commands(tmp_path) == [f"stages.idle (process {by_hand.pid})"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others do not show folders of processes")
def test_dvc_between_two_stages_is_what_runs(tmp_path, started):
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "dvc").write_text("import time; print('here', flush=True); time.sleep(60)")
    process = started([sys.executable, str(tmp_path / "dvc"), "repro"], folder)
    assert running_commands(folder) == [f"dvc (process {process.pid})"]
    assert running_commands(tmp_path) == [] and running_stages(folder) == []


def test_runs_left_running_are_named_with_who_ends_them(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "no store" in unfinished_runs(tmp_path).seen
    store = find_store({}, tmp_path)
    mirrored = mirror([PlannedRun("study", "study", "s")], experiment="e", store=store, root=tmp_path)
    assert not unfinished_runs(tmp_path).findings
    client = MlflowClient(store.uri, registry_uri=store.uri)
    client.create_run(mirrored.experiment_id, run_name="by hand")
    client.create_run(mirrored.experiment_id, run_name="cut off", tags={"synthgain.workspace": "local"})
    found = {
        finding.problem.split()[1] + finding.problem.split()[2]: finding
        for finding in unfinished_runs(tmp_path).findings
    }
    assert set(found) == {"byhand", "cutoff"}
    assert "set_terminated" in found["byhand"].remedy and "dvc repro track" in found["cutoff"].remedy
    import fcntl

    with (tmp_path / "mlflow.db.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        check = unfinished_runs(tmp_path)
    assert not check.findings and "a `track` is at work" in check.seen


@pytest.mark.slow
def test_mlflow_that_shows_other_results_is_a_finding(write_study, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    files = write_study(ratios=(0.5,), replicates=1)
    params = load_params(files.params)

    def check():
        return mirrored_results(files.root, params, files.params)

    missing = check()
    assert not missing.findings and missing.seen.startswith(
        "not checked: data/prepared/splits.json: no image_size"
    )
    prepared = {"image_size": 8, "splits": {"test": {"images": 300, "pixels_sha256": "ef" * 32}}}
    (files.root / "data/prepared/splits.json").write_text(json.dumps(prepared))
    (files.root / "data/report").mkdir()
    (files.root / "data/report/index.html").write_text("<p>report</p>")
    (found,) = check().findings
    assert str(found) == "MLflow: 13 of 13 runs are not those of data/; `synthgain stage track` mends it"
    assert not (files.root / "mlflow.db").exists()
    write_empty_generator(files.root / "data/gan/60/0/generator.safetensors")
    splits = prepared | {"splits": prepared["splits"] | {"validation": {"pixels_sha256": "cd" * 32}}}
    (files.root / "data/prepared/splits.json").write_text(json.dumps(splits))
    subprocess.run(
        [sys.executable, "-m", "stages.track"],
        cwd=files.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    assert not check().findings and "all 13 runs are those of data/" in check().seen
    (files.root / "data/report/index.html").write_text("<p>another report</p>")
    assert check().findings[0].problem == "1 of 13 runs are not those of data/"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://host")
    assert check().seen.startswith("not checked: MLFLOW_TRACKING_URI: found ftp://host")


def test_a_store_that_is_none_is_a_finding(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://host")
    (found,) = unfinished_runs(tmp_path).findings
    assert found.where == "MLFLOW_TRACKING_URI" and "allowed are http" in found.problem


# --- the command ---


def test_invalid_params_are_a_finding_and_the_rest_is_looked_at_all_the_same(project):
    (project / "params.yaml").write_text("gan: 3\n")
    checks = {check.name: check for check in examine(project, project / "params.yaml")}
    assert set(checks) == {
        "params",
        "environment",
        "processes",
        "half-written outputs",
        "store",
        "DVC files",
        "code of the results",
        "DVC objects",
        "MLflow runs",
    }
    assert len(checks["params"].findings) > 5


def test_a_key_that_has_moved_is_shown_with_its_new_name(tmp_path):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["classifier"]["elastic_alpha"] = values["augmentation"].pop("elastic_alpha")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    params, check = read_params(tmp_path / "params.yaml")
    assert params is None
    problems = [finding.problem for finding in check.findings]
    moved = "classifier.elastic_alpha: now called augmentation.elastic_alpha; move its value there"
    assert problems == [moved]  # that it is missing at its new place says nothing more
    shown = CliRunner().invoke(app, ["doctor", "--params", str(tmp_path / "params.yaml")])
    assert shown.exit_code == 1 and sum(moved in line for line in shown.output.splitlines()) == 1


def test_exit_status_and_lines(project, monkeypatch):
    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sound = CliRunner().invoke(app, ["doctor"])
    assert (sound.exit_code, sound.output.splitlines()[-1]) == (0, "nothing wrong")
    damage(cached(project, b"2"))
    sick = CliRunner().invoke(app, ["doctor"])
    assert sick.exit_code == 1 and sick.output.splitlines()[-1] == "1 finding"
    assert sum("damaged: its bytes" in line and "rm -f" in line for line in sick.output.splitlines()) == 1
    machine = CliRunner().invoke(app, ["doctor", "--json"])
    assert machine.exit_code == 1
    (found,) = json.loads(machine.output)["findings"]
    assert found["check"] == "DVC objects" and set(found) == {"check", "what", "where", "remedy"}


def test_the_holder_of_a_lock_is_named(tmp_path):
    """A command says that another process is writing; the doctor says which process writes what."""
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    assert held_locks(tmp_path) == []
    (tmp_path / ".work/unfinished/gan-1").mkdir(parents=True)
    holds = [tmp_path / "data/many", tmp_path / ".work/unfinished/gan-1", tmp_path]
    code = (
        "import sys, time, contextlib\n"
        "from pathlib import Path\n"
        "from pipeline.runtime.outputs import atomic_output, only_writer\n"
        "with contextlib.ExitStack() as stack:\n"
        "    folder = stack.enter_context(atomic_output(Path(sys.argv[1])))\n"
        "    folder.mkdir()\n"
        "    for path in sys.argv[2:]:\n"
        "        stack.enter_context(only_writer(Path(path)))\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, *map(str, holds)]
    environment = {name: value for name, value in os.environ.items() if name != "SYNTHGAIN_STORE"}
    environment["PYTHONPATH"] = str(ROOT)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SYNTHGAIN_STORE", raising=False)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            try:
                assert process.stdout.readline() == "held\n"
                said = orphans([], held_locks(tmp_path)).seen
            finally:
                process.kill()
        assert said == "; ".join(
            [
                "no stage runs here",
                *(
                    f"{name} is being written by process {process.pid}"
                    for name in (tmp_path, "data/many", ".work/unfinished/gan-1")
                ),
            ]
        )
        assert held_locks(tmp_path) == []


def test_an_account_without_a_home_folder_is_named_and_not_the_installation(tmp_path, monkeypatch) -> None:
    """As in a container with a user id of its own; installing again would mend nothing."""

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    (finding,) = unfinished_runs(tmp_path).findings
    assert finding.where == "HOME" and f"user id {os.getuid()} is no account" in finding.problem
    assert finding.remedy.startswith("set HOME")
