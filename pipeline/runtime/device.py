"""Device, threads, number format and switches of this process: what every stage sets before its work."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import SynthGainError

if TYPE_CHECKING:
    import torch

    from pipeline.params import Execution

# There while Linux's driver for NVIDIA GPUs is loaded.
_NVIDIA_DRIVER = Path("/proc/driver/nvidia")
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


def several_processes(execution: Execution, *, trainings: int) -> bool:
    """Whether processes will share so many trainings (`workers_for`), told without torch."""
    on_gpu = execution.device == "cuda" or (execution.device == "auto" and _NVIDIA_DRIVER.exists())
    return not on_gpu and min(trainings, _threads(execution), execution.processes or trainings) > 1


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
