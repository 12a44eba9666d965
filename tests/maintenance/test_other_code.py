"""What an update of the code makes run again: said in one line, and not where nothing would run."""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from pipeline.maintenance.other_code import code_of_results, stages_of_other_code
from pipeline.maintenance.workspace import create_workspace

OLD_LOCK = Path(__file__).parent / "dvc-0.1.0.lock"
STAGES = {
    "make": {
        "cmd": "python -c 'import pathlib; pathlib.Path(\"out.txt\").touch()'",
        "deps": ["pipeline", "stages/make.py", "given.txt"],
        "outs": ["out.txt"],
    },
    "copy": {
        "matrix": {"ratio": "${ratios}"},
        "cmd": "cp out.txt ${item.ratio}.txt",
        "deps": ["out.txt", "pipeline/copying.py"],
        "outs": ["${item.ratio}.txt"],
    },
}


def dvc(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(root, stages=STAGES, ratios=(1, 2)):
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (root / "params.yaml").write_text(yaml.safe_dump({"ratios": list(ratios)}))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository with code, after a run of the real DVC."""
    root = tmp_path_factory.mktemp("made")
    for name in ("pipeline/copying.py", "pipeline/making.py", "stages/make.py", "given.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("1\n")
    (root / ".dvcignore").write_text("__pycache__\n")
    write(root)
    dvc(root, "init", "--no-scm", "-q")
    dvc(root, "repro", "-q")
    return root


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")  # where DVC looks for its stages
    return tmp_path / "project"


def will_run(root):
    """The stages that DVC itself says it would run."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning), Repo(str(root)) as repo:
        return [stage.name for stage in repo.reproduce(dry=True)]


def test_it_is_silent_after_a_run(root):
    (root / "pipeline/__pycache__").mkdir()
    (root / "pipeline/__pycache__/making.pyc").write_bytes(b"1")
    assert will_run(root) == [] == stages_of_other_code(root)
    assert not code_of_results(root).findings


@pytest.mark.parametrize(
    "file, stages",
    [
        ("stages/make.py", ["make"]),
        ("pipeline/making.py", ["make"]),
        ("pipeline/copying.py", ["make", "copy@1", "copy@2"]),
    ],
)
def test_changed_code_is_what_dvc_runs_again(root, file, stages):
    (root / file).write_text("2\n")
    assert stages_of_other_code(root) == stages
    assert will_run(root)[0] == stages[0]
    (finding,) = code_of_results(root).findings
    assert finding.where == "dvc.lock" and "made by another version of the code" in finding.problem


def test_two_stages_are_named_and_the_others_counted(root):
    (root / "pipeline/copying.py").write_text("2\n")
    (finding,) = code_of_results(root).findings
    assert str(finding) == (
        "dvc.lock: made by another version of the code; `dvc repro` runs make, copy@1 and 1 more again"
        " (the store holds no result of this code)"
    )


def test_another_command_and_a_file_that_is_not_recorded(root):
    write(root, STAGES | {"make": STAGES["make"] | {"cmd": "touch out.txt"}})
    assert stages_of_other_code(root) == ["make"] == will_run(root)
    (root / "stages/new.py").write_text("1\n")
    copy = STAGES["copy"] | {"deps": [*STAGES["copy"]["deps"], "stages/new.py"]}
    write(root, STAGES | {"copy": copy})
    assert stages_of_other_code(root) == ["copy@1", "copy@2"] == will_run(root)


def test_other_data_and_another_ratio_are_no_other_code(root):
    (root / "given.txt").write_text("2\n")
    write(root, ratios=(1, 3))
    assert set(will_run(root)) >= {"make", "copy@3"}
    assert stages_of_other_code(root) == []


def test_stages_that_have_other_names_now(root):
    write(root, {"make": STAGES["make"], "copying": STAGES["copy"]})
    assert stages_of_other_code(root) == ["copying@1", "copying@2"] == will_run(root)


def test_what_dvc_cannot_read_is_not_checked(root):
    (root / "dvc.yaml").write_text("stages: 3")
    check = code_of_results(root)
    assert not check.findings and check.seen.startswith("not checked")
    (root / "dvc.lock").unlink()
    assert "nothing was run here yet" in code_of_results(root).seen


def test_a_workspace_of_version_0_1_0(tmp_path):
    """Its lock names files that are no longer there. Once its code is refreshed, everything runs again."""
    (tmp_path / "changes.yaml").write_text("seed: 1\n")
    workspace = tmp_path / "w"
    create_workspace(workspace, changes=tmp_path / "changes.yaml")
    assert not code_of_results(workspace).findings  # nothing was run
    shutil.copyfile(OLD_LOCK, workspace / "dvc.lock")
    recorded = yaml.safe_load(OLD_LOCK.read_text())["stages"]
    files = {dep["path"] for stage in recorded.values() for dep in stage["deps"]}
    assert {name for name in files if name.startswith("pipeline/") and not (workspace / name).exists()}
    stages = stages_of_other_code(workspace)
    assert set(recorded) <= set(stages) and stages[:2] == ["download", "prepare"]
    (finding,) = code_of_results(workspace).findings
    assert str(finding) == (
        f"dvc.lock: made by another version of the code; `dvc repro` runs download, prepare and"
        f" {len(stages) - 2} more again (the store holds no result of this code)"
    )
