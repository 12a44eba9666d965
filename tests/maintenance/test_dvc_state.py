"""DVC's own files, cut short as by a kill, and put right."""

import subprocess
import sys

import pytest
import yaml

from pipeline.maintenance.dvc_state import LOCK, RWLOCK, half_written, put_away_half_written

WHOLE = {
    "schema": "2.0",
    "stages": {
        "prepare": {"cmd": "true", "outs": [{"path": "a", "hash": "md5", "md5": "0" * 32, "size": 1}]}
    },
}
WHOLE_TEXT = yaml.safe_dump(WHOLE, sort_keys=False)
RUNNING = '{"write": {"data/raw": {"pid": 7, "cmd": "dvc repro"}}, "read": {}}'


@pytest.fixture
def root(tmp_path):
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / RWLOCK).write_text(RUNNING)
    (tmp_path / LOCK).write_text(WHOLE_TEXT)
    return tmp_path


def committed(root):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", str(LOCK)], [*identity, "commit", "-qm", "results"]):
        subprocess.run(["git", *command], cwd=root, check=True)


def test_whole_files_stay_as_they_are(root):
    assert put_away_half_written(root) == []
    assert (root / RWLOCK).read_text() == RUNNING and (root / LOCK).read_text() == WHOLE_TEXT


def test_a_folder_without_them_has_nothing_to_put_away_half_written(tmp_path):
    assert put_away_half_written(tmp_path) == []


@pytest.mark.parametrize("left", ["", RUNNING[:20], RUNNING[:-1], "[]", '{"write": {"data/raw": {}}}'])
def test_a_broken_rwlock_is_removed(root, left):
    (root / RWLOCK).write_text(left)
    assert half_written(root) == [RWLOCK]
    (line,) = put_away_half_written(root)
    assert line == ".dvc/tmp/rwlock: half-written by a killed DVC; removed"
    assert not (root / RWLOCK).exists() and (root / LOCK).read_text() == WHOLE_TEXT
    assert put_away_half_written(root) == []


@pytest.mark.parametrize(
    "left", ["", "schema: '2.0'\nsta", "schema: '2.0'\nstages:\n  a:\n    outs:\n    - pa", "stages: ["]
)
def test_a_broken_dvc_lock_is_put_aside(root, left):
    (root / LOCK).write_text(left)
    (line,) = put_away_half_written(root)
    assert line.endswith("kept as dvc.lock.broken, DVC writes a new one")
    assert not (root / LOCK).exists() and (root / "dvc.lock.broken").read_text() == left
    assert put_away_half_written(root) == []


def test_the_committed_dvc_lock_takes_the_place_of_a_broken_one(root):
    committed(root)
    (root / LOCK).write_text(WHOLE_TEXT[:30])
    (line,) = put_away_half_written(root)
    assert line.endswith("kept as dvc.lock.broken, Git's version is in its place")
    assert (root / LOCK).read_text() == WHOLE_TEXT
    assert put_away_half_written(root) == []


def test_a_file_that_a_running_dvc_is_writing_is_let_alone(root, monkeypatch):
    (root / RWLOCK).write_text("")
    monkeypatch.setattr(
        "pipeline.maintenance.dvc_state.time.sleep", lambda _: (root / RWLOCK).write_text(RUNNING)
    )
    assert put_away_half_written(root) == []
    assert (root / RWLOCK).read_text() == RUNNING


def test_dvc_itself_refuses_what_is_mended_and_starts_afterwards(tmp_path):
    """Else there would be nothing to mend, or not enough."""

    def dvc(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    assert dvc("init", "--no-scm", "-q").returncode == 0
    (tmp_path / "in").write_text("1\n")
    stage = {"cmd": "cp in out && echo ran >> log", "deps": ["in"], "outs": ["out"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"one": stage}}))
    assert dvc("repro").returncode == 0
    for name in (RWLOCK, LOCK):
        (tmp_path / name).write_text("")
        assert dvc("repro").returncode != 0
        assert len(put_away_half_written(tmp_path)) == 1
        done = dvc("repro")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() == "1\n"
    assert (tmp_path / "log").read_text() == "ran\n"  # not again: the run cache knew
