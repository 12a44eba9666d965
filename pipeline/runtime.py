"""Device, threads, seeds and crash-safe output: what every stage needs before and after its work."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import SynthGainError

if TYPE_CHECKING:
    import torch

    from pipeline.params import Execution


def configure(execution: Execution) -> torch.device:
    """Fix the thread count and the determinism switches of this process; return the device to compute on.

    Raises:
        SynthGainError: if CUDA is asked for and not there.
    """
    # Denormals (Adam's second moments, saturated tanh) cost 100 times a normal multiplication. The switch is
    # per thread and inherited, so it comes before the first operation that starts the thread pool.
    import torch

    torch.set_flush_denormal(True)
    torch.set_num_threads(execution.threads or available_cores())
    if execution.device == "cuda" and not torch.cuda.is_available():
        raise SynthGainError(
            "execution.device: found cuda, but torch sees no CUDA device here; set it to auto or cpu"
        )
    use_cuda = execution.device == "cuda" or (execution.device == "auto" and torch.cuda.is_available())
    # On CUDA the gradient of the affine augmentation has no deterministic implementation: a run repeats there
    # in quality, not in bytes.
    torch.use_deterministic_algorithms(not use_cuda)
    return torch.device("cuda" if use_cuda else "cpu")


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

    Killed or failed in between, `path` is as it was before; what a killed process left is removed by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.tmp"
    _remove(temporary)
    try:
        yield temporary
        if path.is_dir():  # os.replace cannot replace a folder that holds something
            _remove(path)
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or none of it."""
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
