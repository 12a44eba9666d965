"""Stage `track`: mirror the results of the declared study into MLflow, and register the exported generator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run

if TYPE_CHECKING:
    from pipeline.tracking.planned_runs import PlannedRun
    from pipeline.tracking.registration import Registration
    from pipeline.tracking.store import Store


def main(
    metrics: Annotated[Path, typer.Option(help="Folder of the tables and metrics.")] = Path("data/metrics"),
    gan: Annotated[Path, typer.Option(help="Folder of the GANs.")] = Path("data/gan"),
    synthetic: Annotated[Path, typer.Option(help="Folder of the synthetic images.")] = Path("data/synthetic"),
    prepared: Annotated[Path, typer.Option(help="Folder of the real splits.")] = Path("data/prepared"),
    report: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("data/report"),
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether MLflow shows these results; write nothing.")
    ] = False,
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Show the results in MLflow, each run once: in the project's mlflow.db, or where MLFLOW_TRACKING_URI is.

    The generator whose images are exported is registered as a model; the alias `champion` goes to the best one. An
    experiment that DVC runs beside the workspace has an MLflow experiment and a model of its own.

    Before the study has ended it shows the GANs of every budget that has them all, and registers nothing.

    With --check, the exit status is 1 if MLflow shows anything else.

    Example: python -m stages.track --metrics data/metrics --gan data/gan --synthetic data/synthetic
    --prepared data/prepared --report data/report

    To look only: python -m stages.track --check
    """
    import os

    from pipeline.params import load_params
    from pipeline.runtime.home import require_home

    params = load_params(params_file)
    require_home()  # or the import of MLflow fails

    from pipeline.results import ResultFolders
    from pipeline.tracking.planned_runs import experiment_name, plan_runs
    from pipeline.tracking.registration import plan_registration
    from pipeline.tracking.store import find_store, trial_name
    from pipeline.tracking.unfinished import plan_unfinished_runs

    root = Path(os.environ.get("DVC_ROOT") or Path.cwd())
    store = find_store(os.environ, root)
    trial = trial_name(os.environ, Path.cwd())
    if trial is not None:
        root = Path.cwd()  # it has a commit and a dvc.lock of its own; the store is the workspace's
    experiment = experiment_name(params, trial=trial)
    has_ended = (metrics / "comparison.json").is_file()
    folders = ResultFolders(metrics, gan, synthetic, prepared)
    runs = (
        plan_runs(params, folders, params_file=params_file, report=report)
        if has_ended
        else plan_unfinished_runs(params, folders, params_file=params_file)
    )
    if check:
        _say_whether_shown(runs, experiment, store)
    elif has_ended:
        _show(runs, experiment, store, root, plan_registration(params, folders))
    else:
        _show_unfinished(runs, experiment, store, root)


def _say_whether_shown(runs: list[PlannedRun], experiment: str, store: Store) -> None:
    from pipeline.tracking.mirror import compare_with_store

    comparison = compare_with_store(runs, experiment=experiment, store=store)
    if comparison is None:
        print(f"MLflow: not checked: a `track` is at work on {store}")
    elif comparison.differing:
        print(f"MLflow: {comparison}; `synthgain stage track` mends it")
        raise typer.Exit(1)
    else:
        print(f"MLflow: {comparison}")


def _show_unfinished(runs: list[PlannedRun], experiment: str, store: Store, root: Path) -> None:
    from pipeline.tracking.mirror import mirror
    from pipeline.tracking.saved_views import GANS_QUERY
    from pipeline.tracking.store import view_command

    mirrored = mirror(runs, experiment=experiment, store=store, root=root)
    print(f"MLflow experiment {experiment} in {store}: {runs[0].tags['verdict']}")
    print(f"look at it: {view_command(store, mirrored.experiment_id, GANS_QUERY)}")


def _show(
    runs: list[PlannedRun],
    experiment: str,
    store: Store,
    root: Path,
    registration: Registration | str,
) -> None:
    from pipeline.tracking.connection import writing_to
    from pipeline.tracking.mirror import mirror
    from pipeline.tracking.registry import register_generator
    from pipeline.tracking.store import view_command

    with writing_to(store):
        mirrored = mirror(runs, experiment=experiment, store=store, root=root)
        print(
            f"MLflow experiment {experiment} in {store}:"
            f" {mirrored.created} runs created, {mirrored.kept} kept, {mirrored.removed} removed"
        )
        if isinstance(registration, str):
            print(f"no generator registered: {registration}")
        else:
            print(
                register_generator(
                    registration.candidate,
                    name=experiment,
                    run_key=registration.run_key,
                    experiment_id=mirrored.experiment_id,
                    card=registration.card,
                    store=store,
                )
            )
    print(f"look at it: {view_command(store, mirrored.experiment_id)}")


if __name__ == "__main__":
    run(main)
