"""Command `literature`: the literature's GANs and simple baselines under one protocol; no stage of dvc.yaml."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile


def literature(
    prepared: Annotated[Path, typer.Option(help="Folder of the splits.")] = Path("data/prepared"),
    out: Annotated[Path, typer.Option(help="Folder for results; what is finished there is kept.")] = Path(
        "build/literature"
    ),
    total_images: Annotated[
        int | None,
        typer.Option(min=1, help="Real images shown to each discriminator, instead of gan.total_images."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Train this system only (again for more); others stay as they are."),
    ] = None,
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train the GANs of the literature at one image budget, judge them all alike, and write one table with pictures.

    Finished systems are kept and not trained again, as long as their parameters and the train split stay the
    same; a killed training goes on where it was.

    Example: synthgain literature --total-images 440000
    """
    from pipeline.runtime.outputs import only_writer

    with only_writer(out):
        from pipeline.literature.run import run_literature

        run_literature(
            params_file, prepared=prepared, out=out, total_images=total_images, only=tuple(only or ())
        )
    typer.echo(f"table: {out / 'table.md'}\npage:  {out / 'index.html'}")
