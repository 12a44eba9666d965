"""`synthgain demo`: the whole pipeline in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pipeline.runtime.progress import counted
from synthgain.workspace import Folder, run_pipeline

if TYPE_CHECKING:
    from pipeline.params import Params


def demo(folder: Folder = Path("build/demo")) -> None:
    """Run the whole pipeline on scikit-learn's embedded digits: no download, no GPU, a few minutes.

    Example: synthgain demo build/demo
    """
    from pipeline.maintenance.workspace import PROJECT, create_workspace
    from pipeline.runtime.outputs import only_writer

    with only_writer(folder):
        params = create_workspace(folder, changes=PROJECT / "studies" / "demo.yaml")
        if not (folder / "data/metrics/comparison.json").is_file():  # else there is little or nothing to do
            typer.echo(_how_long(folder, params))
        run_pipeline(folder)


def _how_long(folder: Path, params: Params) -> str:
    """A sentence on what is trained, and about how long that takes here."""
    from pipeline.maintenance.plan import plan
    from pipeline.runtime.device import available_cores

    found = plan(folder, params)
    minutes = max(1, round(sum(found.seconds.values()) / 60))
    threads = params.execution.threads or available_cores()
    return (
        f"{folder}: {found.gans} GANs and {found.cells} classifiers in {found.stages} stages. About"
        f" {counted(minutes, 'minute')} here, with {counted(threads, 'thread')}; less where results are in the store."
    )
