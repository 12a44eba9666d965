import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SynthGainError
from pipeline.params import Execution
from pipeline.runtime.device import configure
from pipeline.runtime.outputs import atomic_output, write_text
from pipeline.runtime.seeds import derive_seed

PURPOSES = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 10**6)), max_size=4)


@given(st.integers(0, 2**63), PURPOSES)
def test_seeds_repeat_and_fit_every_generator(seed, purpose):
    first = derive_seed(seed, *purpose)
    assert first == derive_seed(seed, *purpose)
    assert 0 <= first < 2**63
    torch.Generator().manual_seed(first)


def test_purposes_have_seeds_of_their_own():
    seeds = {derive_seed(s, name, i) for s in range(3) for name in ("gan", "classifier") for i in range(50)}
    assert len(seeds) == 300


def test_output_takes_its_place_only_when_the_block_ends_well(tmp_path):
    path = tmp_path / "out.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_output(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "out"
    for name in ("a", "b"):
        with atomic_output(folder) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.skipif(sys.platform == "win32", reason="no folder is synced there")
def test_what_takes_its_place_is_on_the_disk_first(tmp_path, monkeypatch):
    """Renamed before that, a file may be empty under its final name after a power cut."""
    steps = []
    sync, rename = os.fsync, os.replace

    def synced(descriptor):
        steps.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).relative_to(tmp_path).as_posix())
        sync(descriptor)

    def renamed(source, target):
        steps.append(f"rename {Path(source).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_text(tmp_path / "a", "text")
    assert steps == [".a.tmp", "rename .a.tmp", "."]
    steps.clear()
    with atomic_output(tmp_path / "f") as temporary:
        (temporary / "in").mkdir(parents=True)
        (temporary / "in/b").write_text("text")
    assert steps == [".f.tmp", ".f.tmp/in/b", ".f.tmp/in", "rename .f.tmp", "."]


@pytest.mark.skipif(sys.platform == "win32", reason="no folder is synced there")
def test_every_file_of_a_large_folder_is_on_the_disk_or_none_takes_its_place(tmp_path, monkeypatch):
    synced, broken = set(), set()
    sync = os.fsync

    def watched(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.add(path.name)
        if path.name in broken:
            raise OSError(errno.EIO, "the disk is broken")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    names = {f"{part}{number}" for part in "ab" for number in range(70)}

    def write():
        with atomic_output(tmp_path / "out") as temporary:
            for name in names:
                (temporary / name[0]).mkdir(parents=True, exist_ok=True)
                (temporary / name[0] / name).write_text("text")

    broken.add("b69")
    with pytest.raises(OSError, match="broken"):
        write()
    assert list(tmp_path.iterdir()) == []
    broken.clear()
    synced.clear()
    write()
    assert synced >= names


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_that_is_not_there_is_refused():
    with pytest.raises(SynthGainError, match="torch sees no CUDA device"):
        configure(Execution(device="cuda", precision="auto", threads=1, processes=0))


def test_threads_are_what_was_asked_for():
    before = torch.get_num_threads()
    try:
        assert configure(Execution(device="cpu", precision="auto", threads=1, processes=0)) == torch.device(
            "cpu"
        )
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(before)
        torch.set_deterministic_debug_mode("default")


CONFIGURED = """
import resource, sys
from pathlib import Path
import torch
from pipeline.params import load_params
from pipeline.runtime.device import configure

configure(load_params(Path("params.yaml")).execution.model_copy(update={"device": "cpu"}))
"""


@pytest.fixture(scope="module")
def after_configure():
    """What a process prints that has set its switches: whether torch's compiler is there, and its page faults."""
    code = """
print('torch._dynamo' in sys.modules)
for turn in range(20):
    if turn == 5: before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(1 << 21) for _ in range(8)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    result = subprocess.run(
        [sys.executable, "-c", CONFIGURED + code],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    return result.stdout.split()


def test_the_switches_do_not_import_torchs_compiler(after_configure):
    """Which takes as long as torch itself."""
    assert after_configure[0] == "False"


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_freed_tensors_leave_their_memory_to_the_next_ones(after_configure):
    # Eight tensors of 8 MiB have 16 384 pages; without the switch they are taken anew in each of the 15 turns.
    assert int(after_configure[1]) < 2 * 16_384


def test_a_folder_that_a_kill_left_without_its_successor_is_put_back(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").touch()
    replace, steps = os.replace, []

    def killed_at_the_second(source, target):
        steps.append(source)
        if len(steps) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), atomic_output(folder) as temporary:
        temporary.mkdir()
        patch.setattr(os, "replace", killed_at_the_second)
    assert not folder.exists()
    with pytest.raises(RuntimeError), atomic_output(folder) as temporary:
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp/half").touch()
    with atomic_output(tmp_path / "out") as temporary:
        temporary.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not list((tmp_path / "out").iterdir())


WRITER = """
import sys
from pathlib import Path
from pipeline.runtime.outputs import atomic_output

with atomic_output(Path(sys.argv[1])) as temporary:
    temporary.write_text("of the first")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
@pytest.mark.parametrize("ends", ["well", "killed"])
def test_two_writers_of_one_output_do_not_mix(tmp_path, ends):
    path = tmp_path / "out.txt"
    first = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with first:
        assert first.stdout.readline() == b"writing\n"
        with pytest.raises(SynthGainError, match=r"another process \(\d+\) is writing it; wait for it"):
            write_text(path, "of the second")
        assert not path.exists()
        if ends == "killed":
            first.kill()
    assert path.exists() == (ends == "well")
    write_text(path, "of the second")
    assert path.read_text() == "of the second"
    assert list(tmp_path.iterdir()) == [path]
