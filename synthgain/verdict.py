"""`synthgain verdict`: the answer of a finished study, in the terminal."""

import os
from pathlib import Path
from typing import Annotated

import typer


def verdict(
    folder: Annotated[Path, typer.Argument(help="A folder in which the pipeline has run.")] = Path(),
) -> None:
    """Print the answer of a finished study: its table, a small chart, the verdict, and what to look at next.

    Example: synthgain verdict build/demo
    """
    import json

    from rich.console import Console

    from pipeline.comparison.text_chart import metric_chart
    from pipeline.comparison.verdict import verdict_table, verdicts
    from pipeline.errors import SynthGainError
    from pipeline.params import load_params
    from pipeline.tracking.planned_runs import experiment_name
    from pipeline.tracking.store import find_store

    path = folder / "data/metrics/comparison.json"
    if not path.is_file():
        raise SynthGainError(
            f"{path}: no finished study there; `make repro` or `synthgain demo` makes one, or name another folder"
        )
    comparison = json.loads(path.read_text(encoding="utf-8"))
    console = Console(markup=False, highlight=False)  # a path or a class may hold brackets
    console.print(verdict_table(comparison))
    for line in metric_chart(comparison):
        console.print(line, soft_wrap=True)
    console.print()
    for sentence in verdicts(comparison):
        console.print(sentence)
    console.print(f"\nreport:  {folder / 'data/report/index.html'}", soft_wrap=True)
    store = find_store(os.environ, folder)
    where = store if store.database is None else f"synthgain ui {folder}"
    experiment = experiment_name(load_params(folder / "params.yaml"))
    console.print(f"MLflow:  {where}   (experiment {experiment})", soft_wrap=True)
    console.print(f"images:  synthgain inspect {folder / 'data/export'}", soft_wrap=True)
