"""A result is found by what it was computed from, whole, or computed again."""

import os
import time
from pathlib import Path

import pytest
import torch

from pipeline.classifier.training import train_classifier
from pipeline.errors import SynthGainError
from pipeline.gan.training import train_gan
from pipeline.runtime.store import (
    damaged_file,
    find_result,
    keep_result,
    origin_of,
    result_key,
    shrink,
    this_store,
    unfinished,
)

CPU = torch.device("cpu")


def key(kind="classifier", compute=train_classifier, seed=1, data="images", dtype=torch.float32, **recipe):
    return result_key(kind, compute, recipe={"seed": seed, **recipe}, data=data, device=CPU, dtype=dtype)


def keep(store, result_key, content="weights"):
    with keep_result(store, result_key) as folder:
        (folder / "weights").write_text(content)


def test_what_is_kept_is_found_by_the_same_values(tmp_path):
    assert find_result(tmp_path, key()) is None
    keep(tmp_path, key())
    assert (find_result(tmp_path, key()) / "weights").read_text() == "weights"
    assert origin_of(find_result(tmp_path, key()))["recipe"] == {"seed": 1}


def test_processors_whose_bfloat16_differs_share_no_result(tmp_path, monkeypatch):
    """Both are AVX512 with native bfloat16; the default study has other accuracies on each."""
    able = {"avx512_bf16": True, "amx_bf16": False}
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: able)
    keep(tmp_path, key())
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: able | {"amx_bf16": True})
    assert find_result(tmp_path, key()) is None


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 2},
        {"data": "other images"},
        {"dtype": torch.bfloat16},
        {"compute": train_gan},
        {"kind": "gan"},
        {"steps": 3},
    ],
)
def test_anything_else_is_another_result(tmp_path, other):
    keep(tmp_path, key())
    assert find_result(tmp_path, key(**other)) is None


@pytest.mark.parametrize("damage", ["change", "truncate", "remove", "no sums", "empty sums"])
def test_a_damaged_result_is_removed_and_not_used(tmp_path, damage):
    keep(tmp_path, key())
    folder = find_result(tmp_path, key())
    file = folder / ("SHA256SUMS" if "sums" in damage else "weights")
    if damage in ("remove", "no sums"):
        file.unlink()
    else:
        file.write_text("" if damage in ("truncate", "empty sums") else "weightz")
    assert damaged_file(folder) == file.name
    assert find_result(tmp_path, key()) is None and not folder.exists()


def test_a_failed_computation_keeps_nothing(tmp_path):
    with pytest.raises(RuntimeError), keep_result(tmp_path, key()) as folder:
        (folder / "weights").write_text("half")
        raise RuntimeError
    assert find_result(tmp_path, key()) is None and list(tmp_path.iterdir()) == []


def test_a_state_stays_until_its_result_is_there(tmp_path):
    store = tmp_path / "store"
    with unfinished(store, key()) as folder:
        (folder / "state.pt").write_text("half way")
    with unfinished(store, key()) as folder:
        assert (folder / "state.pt").read_text() == "half way"
    keep(store, key())
    assert not folder.exists()


def test_the_results_not_used_for_longest_go_first(tmp_path):
    for seed in range(4):
        keep(tmp_path, key(seed=seed), "x" * 1000)
        folder = find_result(tmp_path, key(seed=seed))
        os.utime(folder, (time.time() - 100 + seed,) * 2)
    find_result(tmp_path, key(seed=0))  # used now
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    assert shrink(tmp_path, 2 * size + 10) == 2
    assert [find_result(tmp_path, key(seed=seed)) is not None for seed in range(4)] == [
        True,
        False,
        False,
        True,
    ]


def test_a_store_may_be_shared(monkeypatch, tmp_path):
    monkeypatch.setenv("SYNTHGAIN_STORE", str(tmp_path / "shared"))
    assert this_store() == tmp_path / "shared"
    monkeypatch.delenv("SYNTHGAIN_STORE")
    monkeypatch.chdir(tmp_path)
    assert this_store() == Path(".work/store")


def test_one_process_at_a_time_works_on_a_result(tmp_path):
    import threading

    at_work, done = threading.Event(), threading.Event()

    def other():
        with unfinished(tmp_path / "store", key()):
            at_work.set()
            done.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    at_work.wait(60)
    with pytest.raises(SynthGainError, match="another process"), unfinished(tmp_path / "store", key()):
        pass
    done.set()
    thread.join()
