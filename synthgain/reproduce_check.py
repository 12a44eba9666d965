"""`synthgain reproduce-check`: whether this machine makes the bytes that are on disk."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile


def reproduce_check(
    images_per_class: Annotated[
        int, typer.Option(min=1, help="How many images of each class to make again from each generator.")
    ] = 250,
    classifier: Annotated[
        bool, typer.Option("--classifier", help="Also train one classifier of each budget again (seconds).")
    ] = False,
    gan: Annotated[
        bool,
        typer.Option("--gan", help="Also train one GAN of each budget again (as long as the first time)."),
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=0, help="CPU threads instead of execution.threads.")
    ] = None,
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Make a slice of the results again and compare it with what is on disk, to the bit; write nothing.

    The exit status is 0 if all of it is bit-exact, 1 if not. What may differ, and why: docs/reproducibility.md.

    Example: synthgain reproduce-check --classifier
    """
    from rich.console import Console
    from rich.markup import escape

    from pipeline.maintenance.reproduce import machine, slices
    from pipeline.params import load_params
    from pipeline.runtime.device import configure, training_dtype

    params = load_params(params_file)
    execution = params.execution
    if threads is not None:
        execution = execution.model_copy(update={"threads": threads})
    device = configure(execution)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[dim]{escape(machine(device))}[/dim]")
    different = 0
    for result in slices(
        params,
        data=Path("data"),
        images_per_class=images_per_class,
        cell=classifier,
        gan=gan,
        device=device,
        dtype=training_dtype(execution, device),
    ):
        if result.is_exact:
            console.print(
                f"[green]bit-exact[/green] {escape(result.label)} [dim]sha256 {result.on_disk[:16]}[/dim]"
            )
            continue
        different += 1
        console.print(
            f"[red]differs[/red]   {escape(result.label)}: {escape(result.difference)}"
            f" (sha256 {result.made_again[:16]}, on disk {result.on_disk[:16]}); {escape(result.reason)}"
        )
    if different:
        raise typer.Exit(1)
