"""The rows of the papers' systems as runs of an MLflow experiment of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.literature.run import LOSSES, PICTURES, ROWS, file_name, read_table
from pipeline.params import Params
from pipeline.tracking.planned_runs import PlannedRun

_TEXTS = ("system", "title", "kind", "length", "commit", "computed_in", "paper", "seed")


def experiment_of(params: Params) -> str:
    """Its name: beside the studies' experiment of the same data."""
    return f"{params.tracking.experiment}-{params.data.source}-literature"


def planned_systems(results: Path) -> list[PlannedRun]:
    """A run for each row of `rows.csv` in the results folder, with its losses by epoch and its pictures.

    Raises:
        SynthGainError: if a table is damaged.
    """
    rows, losses = read_table(results / ROWS), read_table(results / LOSSES)
    tables = [(results / name, "") for name in (ROWS, LOSSES) if (results / name).is_file()]
    study = PlannedRun(
        kind="study",
        key="literature",
        name="the papers' systems",
        note="What they are, and what their papers print: docs/literature.md.",
        artifacts=tables,
    )
    return [study, *(_run(row, losses, results / PICTURES) for row in rows.to_dict("records"))]


def _run(row: Mapping[Any, Any], losses: pd.DataFrame, pictures: Path) -> PlannedRun:
    name, length = row["system"], row["length"]
    own = losses[(losses["system"] == name) & (losses["length"] == length)]
    known = {str(key): value for key, value in row.items() if not pd.isna(value)}
    by_epoch = [
        (column, float(value), step)
        for column in ("d_loss_sum", "d_loss_mean", "g_loss")
        if column in own
        for step, value in enumerate(own[column], start=1)
    ]
    curves = {column for column, _, _ in by_epoch}
    numbers = [(key, float(known[key]), 0) for key in known if key not in _TEXTS and key not in curves]
    files = [pictures / f"{file_name(name)}_{length}{end}.png" for end in ("", "_film")]
    return PlannedRun(
        kind="gan",
        key=f"literature/{name}/{length}",
        name=f"{name}, {length} length",
        params={key: str(known[key]) for key in _TEXTS if key in known},
        metrics=[*numbers, *by_epoch],
        artifacts=[(file, "pictures") for file in files if file.is_file()],
    )
