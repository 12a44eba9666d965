"""Device, threads, seeds and crash-safe output: what every stage needs before and after its work."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipeline.errors import SynthGainError

if TYPE_CHECKING:
    import torch

    from pipeline.params import Execution

WORK = Path(".work")  # what a stage wants to find again after it was killed; outside of DVC's outs

# Outputs that a thread of this process holds the lock of: (thread, place).
_held: set[tuple[int, str]] = set()

# Where a finished output goes: to its place, or aside if it is no longer wanted there (`outputs_go_to`).
_destination: Callable[[Path], Path] = lambda path: path  # noqa: E731

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def configure(execution: Execution) -> torch.device:
    """Fix the thread count and the determinism switches of this process; return the device to compute on.

    Raises:
        SynthGainError: if CUDA is asked for and not there.
    """
    import torch

    if execution.device == "cuda" and not torch.cuda.is_available():
        raise SynthGainError(
            "execution.device: found cuda, but torch sees no CUDA device here; set it to auto or cpu"
        )
    use_cuda = execution.device == "cuda" or (execution.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if use_cuda else "cpu")
    set_switches(device, threads=_threads(execution))
    return device


def set_switches(device: torch.device, *, threads: int) -> None:
    """Fix how many threads this process computes with on the CPU, and that it repeats itself there to the bit."""
    import torch

    # Denormals (Adam's second moments, saturated tanh) cost 100 times a normal multiplication. The switch is
    # per thread and inherited, so it comes before the first operation that starts the thread pool.
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    # On CUDA the gradient of the affine augmentation has no deterministic implementation: a run repeats there
    # in quality, not in bytes. (torch.use_deterministic_algorithms is the same, but imports the compiler: 1.4 s.)
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "default")
    # With that switch torch also writes NaN over all memory it allocates, to show up who reads it before writing: 3 to
    # 6 % of a training step, for a fault that no operation here has.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        # float32 is float32: by default convolutions would round its products to ten bits (TF32).
        torch.backends.cudnn.allow_tf32 = False
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Keep the memory of freed tensors for the next ones: 15 % of a GAN's training step on Linux.

    By default glibc returns large blocks to the system, and each of their pages (1300 a step) costs a fault when the
    next step takes them anew. Blocks above its limit of 32 MiB still go back at once, what is free beyond 2 GiB too.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, (2 << 30) - 1)


@dataclass(frozen=True)
class Workers:
    """The processes of independent trainings.

    Attributes:
        processes: how many there are; 1: everything happens in this process.
        threads: the CPU threads of each.
        device: what each computes on; None: they do not compute with torch, and do not import it.
    """

    processes: int
    threads: int
    device: torch.device | None


def workers_for(
    execution: Execution, device: torch.device, *, trainings: int, threads_each: int | None = None
) -> Workers:
    """The processes for so many trainings: one for each CPU thread, which they share; one alone on a GPU.

    `threads_each` fixes the threads of each, where more would not make it faster.
    """
    threads = _threads(execution)
    processes = max(1, min(trainings, threads, execution.processes or threads)) if device.type == "cpu" else 1
    return Workers(processes, threads_each or max(1, threads // processes), device)


def _threads(execution: Execution) -> int:
    return execution.threads or available_cores()


def training_dtype(execution: Execution, device: torch.device) -> torch.dtype:
    """What networks compute in while they train: bfloat16 where the hardware multiplies it natively, else float32.

    Natively (AVX512-BF16, AMX, a GPU since 2020) it is up to four times as fast as float32; emulated it is slower.
    """
    import torch

    if execution.precision != "auto":
        return torch.bfloat16 if execution.precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32


def available_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed in 0..2⁶³−1 of its own for each purpose: `derive_seed(7, "subset", 1000, 2)`.

    Purposes never share a stream, and adding one changes no other.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def torch_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A seeded `torch.Generator` on a device."""
    import torch

    return torch.Generator(device=device).manual_seed(seed)


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` (file or folder) that takes its place when the block ends well.

    Killed or failed in between, `path` is as it was before; what a killed process left is removed by the next. Only
    a folder that takes the place of another cannot do so in one step: killed between two, the next puts it back.

    Raises:
        SynthGainError: if another process is writing the same output.
    """
    with only_writer(path):
        is_new = not path.parent.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, before = (path.parent / f".{path.name}{what}.tmp" for what in ("", ".before"))
        _remove(temporary)
        if before.exists():  # killed after a folder had gone aside: without its successor, or with it
            os.replace(before, temporary if path.exists() else path)
            _remove(temporary)
        try:
            yield temporary
            target = _destination(path)
            if target != path:
                target.parent.mkdir(parents=True, exist_ok=True)
                _remove(target)
                shutil.move(temporary, target)  # it may lie on another disk
                return
            if path.is_dir():  # os.replace cannot replace a folder that holds something
                os.replace(path, before)
            os.replace(temporary, path)
            if before.exists():
                os.replace(before, temporary)  # a name under which half of a folder is never put back
        finally:
            _remove(temporary)
            if is_new and not path.exists():
                with suppress(OSError):  # another output came into it meanwhile
                    path.parent.rmdir()


@contextmanager
def outputs_go_to(destination: Callable[[Path], Path]) -> Iterator[None]:
    """While the block runs, `atomic_output` asks where each finished output goes: to its own path, or to another."""
    global _destination
    before, _destination = _destination, destination
    try:
        yield
    finally:
        _destination = before


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lock of an output: two writers at once would put each other's half-written files in place.

    A thread that holds it may ask for it again. It lies in the system's folder for temporary files: beside the
    output, DVC would count it as data.

    Raises:
        SynthGainError: if another process, or another thread, holds it.
    """
    if sys.platform == "win32":  # without flock, two at once are not noticed
        yield
        return
    place = hashlib.sha256(os.path.realpath(path).encode()).hexdigest()[:32]
    held = (threading.get_ident(), place)
    if held in _held:
        yield
        return
    # A user's own: what somebody else left behind after a kill could not be opened.
    lock = Path(tempfile.gettempdir()) / f"synthgain-{os.getuid()}-{place}.lock"
    while True:
        with lock.open("a+") as file:  # not emptied: it may be another's, who wrote its number into it
            if not _locked(file):
                raise SynthGainError(
                    f"{path}: another process{_named_in(file)} is writing it; wait for it, or stop it"
                )
            if not lock.exists() or os.fstat(file.fileno()).st_ino != lock.stat().st_ino:
                continue  # removed by its holder between our opening and locking it
            file.truncate(0)
            print(os.getpid(), file=file, flush=True)
            _held.add(held)
            try:
                yield
            finally:
                _held.discard(held)
                lock.unlink(missing_ok=True)
            return


def _named_in(lock: IO[str]) -> str:
    """The holder's process number, if it has written it already."""
    lock.seek(0)
    number = lock.read(20).strip()
    return f" ({number})" if number.isdecimal() else ""


@contextmanager
def scratch_folder(*purpose: str, fingerprint: Mapping[str, Any]) -> Iterator[Path]:
    """A folder under `.work/` for what a stage wants to find again after it was killed; gone when the block ends well.

    It lies outside the stage's DVC outs, which DVC removes before each run. The name holds a hash of the
    fingerprint (JSON values: all that the content depends on), so that other params or data get another folder.

    Raises:
        SynthGainError: if another process is at the same work.
    """
    text = json.dumps(fingerprint, sort_keys=True)
    name = "-".join((*purpose, hashlib.sha256(text.encode()).hexdigest()[:16]))
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    lock = WORK / f"{name}.lock"
    with lock.open("w") as file:
        if not _locked(file):
            raise SynthGainError(f"{folder}: another process is at this work; wait for it, or stop it")
        yield folder
        _remove(folder)
        _remove(lock)


def _locked(file: IO[str]) -> bool:
    """Take a file's lock, which the system gives back when this process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: without it, two runs at once are not noticed
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or none of it."""
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
