"""What runs in a folder: its stages, and DVC itself. Processes of other users are not seen into."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.maintenance.findings import Check, Finding

if TYPE_CHECKING:
    import psutil


@dataclass(frozen=True)
class RunningStage:
    """A process of a stage of this folder.

    Attributes:
        module: `stages.train_gan`.
        pid: of the process.
        has_dvc: whether DVC is among its parents.
        by_dvc: whether DVC started it.
    """

    module: str
    pid: int
    has_dvc: bool
    by_dvc: bool


def running_stages(root: Path) -> list[RunningStage]:
    """The stages that run in a folder, whoever started them."""
    import psutil

    found = []
    for process in _processes_in(root):
        try:
            module = _stage_module(process.cmdline())
            if module is None:
                continue
            by_dvc = "DVC_STAGE" in process.environ()
            has_dvc = any(_is_dvc(parent) for parent in process.parents())
        except (psutil.Error, OSError):  # ended meanwhile, or somebody else's
            continue
        found.append(RunningStage(module, process.pid, has_dvc, by_dvc))
    return found


def running_commands(root: Path) -> list[str]:
    """Stages and DVC commands of a folder in words, such as `stages.train_gan (process 17)`.

    Between two stages of a `dvc repro` only DVC itself is there.
    """
    import psutil

    stages = [f"{stage.module} (process {stage.pid})" for stage in running_stages(root)]
    commands = []
    for process in _processes_in(root):
        try:
            if _is_dvc(process):
                commands.append(f"dvc (process {process.pid})")
        except (psutil.Error, OSError):
            continue
    return stages + commands


def orphans(running: Sequence[RunningStage], writing: Sequence[str] = ()) -> Check:
    """Stages whose DVC has ended: they would overwrite the outputs of the next run.

    `writing`: what is being written here, in words, by whatever process (`held_locks`).
    """
    findings = [
        Finding(
            f"process {stage.pid} runs on though its DVC has ended; it would overwrite a new run's outputs",
            stage.module,
            f"`kill {stage.pid}`",
        )
        for stage in running
        if stage.by_dvc and not stage.has_dvc
    ]
    names = ", ".join(f"{stage.module} (process {stage.pid})" for stage in running)
    seen = [f"running here: {names}" if running else "no stage runs here", *writing]
    return Check("processes", "; ".join(seen), findings)


def _processes_in(root: Path) -> Iterator[psutil.Process]:
    import psutil

    here = root.resolve()
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if _stage_module(command) is None and not _is_dvc(process):
                continue
            if Path(process.cwd()).resolve() != here:
                continue
            if process.status() == psutil.STATUS_ZOMBIE:  # it has ended, and nobody has collected it
                continue
        except (psutil.Error, OSError):  # ended meanwhile, or somebody else's
            continue
        yield process


def _stage_module(command: Sequence[str]) -> str | None:
    """`stages.train_gan` of `python -m stages.train_gan …`."""
    for flag, module in itertools.pairwise(command):
        if flag == "-m" and module.startswith("stages."):
            return module
    return None


def _is_dvc(process: psutil.Process) -> bool:
    return any(Path(part).name == "dvc" for part in process.cmdline()[:3])
