"""Finished work is kept under its key, and nothing half-done is."""

import pytest

from pipeline.literature.keeping import is_kept, keep


def test_work_is_done_once_per_key(tmp_path):
    done = []

    def make(folder):
        done.append(1)
        (folder / "result").write_text(str(len(done)))

    folder = tmp_path / "system/gan"
    for key in ({"rate": 1e-4, "channels": (1, 2)}, {"channels": [1, 2], "rate": 0.0001}):
        keep(folder, key, make)
    assert (folder / "result").read_text() == "1" and is_kept(folder, {"rate": 1e-4, "channels": [1, 2]})
    keep(folder, {"rate": 2e-4, "channels": [1, 2]}, make)
    assert (folder / "result").read_text() == "2"
    assert not is_kept(folder, {"rate": 1e-4, "channels": [1, 2]})


def test_work_that_fails_leaves_what_was_there(tmp_path):
    def fail(folder):
        (folder / "half").write_text("")
        raise RuntimeError("killed")

    keep(tmp_path / "a", {"k": 1}, lambda folder: (folder / "result").write_text("1"))
    with pytest.raises(RuntimeError):
        keep(tmp_path / "a", {"k": 2}, fail)
    assert is_kept(tmp_path / "a", {"k": 1}) and [path.name for path in tmp_path.iterdir()] == ["a"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["key.json", "result"]


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_key_is_no_key(tmp_path, content):
    (tmp_path / "key.json").write_text(content)
    assert not is_kept(tmp_path, {"k": 1})
