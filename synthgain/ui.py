"""`synthgain ui`: MLflow in a browser, on the runs of a study."""

import os
from pathlib import Path
from typing import Annotated

import typer


def ui(
    folder: Annotated[Path, typer.Argument(help="A folder in which the pipeline has run.")] = Path(),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of this machine.")] = 5000,
) -> None:
    """Start MLflow's server on a study's runs, print their address and open it in a browser. Ctrl-C ends it.

    Where MLFLOW_TRACKING_URI names a server, that one is opened, and none is started.

    Example: synthgain ui build/demo
    """
    import webbrowser

    from pipeline.errors import SynthGainError
    from pipeline.params import load_params
    from pipeline.tracking.browsing import pages, serve
    from pipeline.tracking.planned_runs import experiment_name
    from pipeline.tracking.store import find_store

    store = find_store(os.environ, folder)
    if store.database is not None and not store.database.is_file():
        raise SynthGainError(
            f"{store.database}: no such file; `dvc repro` or `synthgain stage track` makes it, or name the folder of"
            " another study"
        )
    found = pages(store, first=experiment_name(load_params(folder / "params.yaml")))
    if not found:
        raise SynthGainError(f"{store}: no runs of a study in it; `synthgain stage track` shows one")
    server = f"http://127.0.0.1:{port}" if store.database is not None else str(store)
    for name, page in found.items():
        typer.echo(f"{name}: {server}{page}")
    first = next(iter(found.values()))
    if store.database is None:
        webbrowser.open(server + first)
    else:
        raise typer.Exit(serve(store, port=port, page=first))
