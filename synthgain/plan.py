"""`synthgain plan`: what a workspace will train, and about how long that takes here."""

from contextlib import chdir
from pathlib import Path
from typing import Annotated

import typer


def plan(
    folder: Annotated[Path, typer.Argument(help="The workspace, or this project.")] = Path("."),
) -> None:
    """Show what `dvc repro` will train in a workspace, and estimate its minutes on this machine and its disk space.

    A few real training steps are timed, for a second or two. Downloads are not counted, nor what is in the store.

    Example: synthgain plan build/quick
    """
    from pipeline.maintenance import plan as planning
    from pipeline.maintenance.measured import nearest
    from pipeline.params import load_params
    from pipeline.runtime.device import available_cores

    params = load_params(folder / "params.yaml")
    with chdir(folder):
        found = planning.plan(Path(), params)
    study, (channels, height, width) = params.study, found.shape
    colour = "in colour" if channels == 3 else "grey"
    budgets = ", ".join(map(str, study.real_images))
    minutes = ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in found.seconds.items())
    threads = params.execution.threads or available_cores()
    lines = {
        "images": f"{params.data.source}, {width}×{height} {colour}, {found.classes} classes",
        "stages": f"{found.stages}",
        "GANs": f"{found.gans} runs of a generator of your own, which are not in the time; budgets {budgets},"
        f" {study.replicates} replicates"
        if params.generator.kind != "gan"
        else f"{found.gans} of {params.gan.total_images:,} images shown; budgets {budgets},"
        f" {study.replicates} replicates",
        "cells": f"{found.cells} classifiers; {len(study.arms)} arms",
        "synthetic": f"{found.synthetic_images:,} images",
        "time": f"about {sum(found.seconds.values()) / 60:.0f} minutes with {threads} threads ({minutes})",
        "disk": f"about {found.bytes / 1e6:,.0f} MB, and the data set",
    }
    for name, text in lines.items():
        typer.echo(f"{name:<10} {text}")
    for budget in study.real_images:
        row = None if budget == "all" else nearest(params, labels=budget)
        typer.echo(
            f"{'measured':<10} {row.sentence if row else f'nothing like {budget} of these images yet'}"
        )
