"""The installation: versions that belong together, the device and the threads that are asked for, room on the disk."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from pipeline.maintenance.findings import Check, Finding, first_words
from pipeline.params import Params
from pipeline.runtime.device import available_cores
from pipeline.runtime.store import cpu_capability

_NAME = "environment"
_LEAST_FREE_BYTES = 2_000_000_000  # what a study of MNIST and its cache take, with room for the export


def environment(params: Params | None, root: Path) -> Check:
    """Versions, device, threads and disk; without valid parameters, whether the device and threads fit is not known."""
    seen = [f"Python {platform.python_version()}"]
    try:
        import torch
    except Exception as error:  # a broken installation raises nearly anything
        problem = f"cannot be imported ({first_words(error)})"
        return Check(_NAME, ", ".join(seen), [Finding(problem, "torch", "`make install`")])
    seen.append(f"torch {torch.__version__}")
    findings = torch_pair(torch.__version__, _torchvision_version())
    try:
        import torchvision

        seen.append(f"torchvision {torchvision.__version__}")
    except Exception as error:
        problem = f"cannot be imported beside torch {torch.__version__} ({first_words(error)})"
        remedy = "install both from one build family, as requirements.lock has them: `make install`"
        findings.append(Finding(problem, "torchvision", remedy))
    cores = available_cores()
    threads = cores
    if params is not None:
        threads = params.execution.threads or cores
        findings += _execution(params, cores)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    seen += [device, f"{threads} threads on {cores} cores ({cpu_capability()})"]
    free = shutil.disk_usage(root).free
    seen.append(f"{free / 1e9:.0f} GB free")
    return Check(_NAME, ", ".join(seen), findings + _disk(free, root))


def torch_pair(torch_version: str, torchvision_version: str) -> list[Finding]:
    """Whether two versions were built for each other: torchvision 0.x belongs to torch 2.(x − 15), build to build."""
    torch_release, _, torch_build = torch_version.partition("+")
    vision_release, _, vision_build = torchvision_version.partition("+")
    try:
        torch_numbers = [int(part) for part in torch_release.split(".")[:2]]
        vision_numbers = [int(part) for part in vision_release.split(".")[:2]]
    except ValueError:  # a build of their own makes its own rules
        return []
    pair = f"torch {torch_version} beside torchvision {torchvision_version}"
    if torch_numbers[0] == 2 and vision_numbers[0] == 0 and vision_numbers[1] != torch_numbers[1] + 15:
        wanted = f"torch 2.{vision_numbers[1] - 15}"
        return [Finding(f"{pair}, which was built for {wanted}", "torchvision", "`make install`")]
    if torch_build and vision_build and torch_build != vision_build:
        problem = f"{pair}: builds of different families"
        return [Finding(problem, "torchvision", "install both from one index")]
    return []


def _torchvision_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torchvision")
    except PackageNotFoundError:
        return ""


def _execution(params: Params, cores: int) -> list[Finding]:
    """The device and the threads that the parameters ask for, against what is there."""
    import torch

    findings = []
    if params.execution.device == "cuda" and not torch.cuda.is_available():
        problem = "found cuda, but torch sees no CUDA device here"
        findings.append(Finding(problem, "execution.device", "set it to auto or cpu"))
    threads = params.execution.threads
    if threads > cores:
        problem = (
            f"found {threads}, but this process may use {cores} cores: threads that wait for each other are many"
            " times slower"
        )
        remedy = f"set it to 0 (every core) or to at most {cores}"
        findings.append(Finding(problem, "execution.threads", remedy))
    return findings


def _disk(free: int, root: Path) -> list[Finding]:
    if free >= _LEAST_FREE_BYTES:
        return []
    problem = f"{free / 1e9:.1f} GB free; a study and its cache need about {_LEAST_FREE_BYTES / 1e9:.0f} GB"
    remedy = "make room (`dvc gc --workspace` drops what no present result needs)"
    return [Finding(problem, f"disk of {root}", remedy)]
