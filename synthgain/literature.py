"""Command `literature`: the papers' GANs, trained as their papers do and measured by one protocol; no stage."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from stages.command import PARAMS_FILE, ParamsFile


def literature(
    prepared: Annotated[Path, typer.Option(help="Folder of the splits.")] = Path("data/prepared"),
    out: Annotated[Path, typer.Option(help="Folder for the tables and pictures.")] = Path("build/literature"),
    length: Annotated[
        Literal["paper", "equal"],
        typer.Option(help="Train each for its paper's epochs, or all for gan.total_images."),
    ] = "paper",
    only: Annotated[
        list[str] | None, typer.Option(help="This system only (again for more); the others' rows stay.")
    ] = None,
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train the GANs of five papers, measure them all alike, and write their numbers beside the published ones.

    What is finished is not computed again. A training that was killed goes on where it was.

    Example: synthgain literature --only dcgan --length equal
    """
    import os

    from pipeline.runtime.home import require_home
    from pipeline.runtime.outputs import only_writer

    require_home()  # or the import of MLflow fails, after all the work
    with only_writer(out):
        from pipeline.literature.page import write_page
        from pipeline.literature.run import draw_learning_rates, run_literature

        run_literature(params_file, prepared=prepared, out=out, length=length, only=tuple(only or ()))
        draw_learning_rates(out)
        write_page(out / "literature.md", results=out)
        typer.echo(f"tables: {out / 'rows.csv'}, {out / 'losses.csv'}\npage:   {out / 'literature.md'}")
        from pipeline.literature.mlflow_runs import experiment_of, planned_systems
        from pipeline.params import load_params
        from pipeline.tracking.mirror import mirror
        from pipeline.tracking.store import find_store, view_command

        store = find_store(os.environ, Path.cwd())
        experiment = experiment_of(load_params(params_file))
        mirrored = mirror(planned_systems(out), experiment=experiment, store=store, root=Path.cwd())
        typer.echo(f"MLflow experiment {experiment}: {view_command(store, mirrored.experiment_id)}")
