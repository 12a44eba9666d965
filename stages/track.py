"""Stage `track`: mirror the results of the declared study into MLflow."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    metrics: Annotated[Path, typer.Option(help="Folder of the tables and metrics.")] = Path("data/metrics"),
    gan: Annotated[Path, typer.Option(help="Folder of the GANs.")] = Path("data/gan"),
    synthetic: Annotated[Path, typer.Option(help="Folder of the synthetic images.")] = Path("data/synthetic"),
    prepared: Annotated[Path, typer.Option(help="Folder of the real splits.")] = Path("data/prepared"),
    report: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("data/report"),
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Show the results in MLflow, each run once: in the project's mlflow.db, or where MLFLOW_TRACKING_URI is.

    Example: python -m stages.track --metrics data/metrics --gan data/gan --synthetic data/synthetic
    --prepared data/prepared --report data/report
    """
    import os

    from pipeline.params import load_params

    params = load_params(params_file)

    from pipeline.runs import plan_runs
    from pipeline.tracking import find_store, mirror, view_command

    root = Path(os.environ.get("DVC_ROOT") or Path.cwd())
    store = find_store(os.environ, root)
    runs = plan_runs(
        params,
        params_file=params_file,
        metrics=metrics,
        gan=gan,
        synthetic=synthetic,
        prepared=prepared,
        report=report,
    )
    experiment = f"{params.tracking.experiment}-{params.data.source}"
    mirrored = mirror(runs, experiment=experiment, store=store, root=root)
    print(
        f"MLflow experiment {experiment} in {store}:"
        f" {mirrored.created} runs created, {mirrored.kept} kept, {mirrored.removed} removed"
    )
    print(f"look: {view_command(store, mirrored.experiment_id)}")


if __name__ == "__main__":
    run(main)
