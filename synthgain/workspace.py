"""`synthgain workspace`: a folder with the same pipeline, and params of its own."""

from pathlib import Path
from typing import Annotated

import typer

from synthgain.verdict import verdict

Folder = Annotated[Path, typer.Argument(help="The workspace's folder; made if it is not there.")]


def workspace(
    folder: Folder,
    changes: Annotated[
        Path, typer.Option("--params", help="YAML with the values that differ from params.yaml.")
    ],
    repro: Annotated[bool, typer.Option("--repro", help="Run the pipeline in it.")] = False,
) -> None:
    """Make a folder with the same pipeline, its own params, data and results; run it on request.

    Example: synthgain workspace build/quick --params studies/smoke_mnist.yaml --repro
    """
    from pipeline.maintenance.workspace import create_workspace
    from pipeline.runtime.outputs import only_writer

    with only_writer(folder):  # from the first file to the last stage
        params = create_workspace(folder, changes=changes)
        typer.echo(f"workspace: {folder}")
        for line in params.code_of_its_own():
            typer.echo(f"  {line}")
        if repro:
            run_pipeline(folder)


def run_pipeline(folder: Path) -> None:
    """`dvc repro` in a workspace, after what a kill may have left there is repaired, then its verdict."""
    from pipeline.maintenance.fixing import fix
    from pipeline.maintenance.workspace import dvc

    for line in fix(folder):
        typer.echo(line)
    dvc(folder, "repro")
    verdict(folder)
