"""The console app `synthgain`: the hand-over commands, every stage of dvc.yaml, and the tools around them.

Commands import their libraries when they run, so that `synthgain --help` answers at once.
"""

from collections.abc import Callable
from inspect import cleandoc
from typing import Annotated

import typer

from stages import (
    compare,
    download,
    evaluate_classifiers,
    evaluate_synthetic,
    export,
    generate,
    label_pool,
    prepare,
    report,
    score_labels,
    track,
    train_augmented,
    train_baselines,
    train_controls,
    train_extractor,
    train_fill,
    train_gan,
    train_pool,
)
from stages.command import report_errors
from synthgain.demo import demo
from synthgain.doctor import doctor
from synthgain.export import export as export_command
from synthgain.generate import generate as generate_command
from synthgain.inspect import inspect
from synthgain.literature import literature
from synthgain.plan import plan
from synthgain.reproduce_check import reproduce_check
from synthgain.ui import ui
from synthgain.verdict import verdict
from synthgain.verify import verify
from synthgain.workspace import workspace

_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
    help="Does adding GAN images help my classifier, how much, at which ratio, and more than classic augmentation?",
    epilog="--debug anywhere on the line (or SYNTHGAIN_DEBUG=1) shows the traceback of an error.",
)


def _versions(wanted: bool) -> None:
    """Those that a report of a fault needs."""
    if wanted:
        from importlib.metadata import version

        typer.echo("   ".join(f"{name} {version(name)}" for name in ("synthgain", "torch", "dvc", "mlflow")))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_versions, is_eager=True, help="Show versions and exit.")
    ] = False,
) -> None:
    """Options of the app itself."""


def _help(command: Callable[..., None]) -> str:
    """A command's docstring, a line for each paragraph: the terminal breaks lines where it is wide enough."""
    paragraphs = cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


_COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start here": (demo, verdict, ui, workspace, plan, literature),
    "When in doubt": (doctor, reproduce_check),
    "Labelled synthetic images to take away": (generate_command, export_command, verify, inspect),
}
for panel, commands in _COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel, help=_help(command))(command)

stage_app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, context_settings=_HELP
)
app.add_typer(
    stage_app,
    name="stage",
    help="The stages of dvc.yaml, one by one.",
    rich_help_panel="What `dvc repro` runs",
)
for stage in (
    download,
    prepare,
    train_extractor,
    label_pool,
    train_gan,
    generate,
    evaluate_synthetic,
    score_labels,
    train_baselines,
    train_controls,
    train_augmented,
    train_fill,
    train_pool,
    evaluate_classifiers,
    compare,
    report,
    track,
    export,
):
    name = stage.__name__.rpartition(".")[2]
    for spelling in {name, name.replace("_", "-")}:  # as in dvc.yaml; and as commands are usually spelt
        stage_app.command(spelling, help=_help(stage.main), hidden=spelling != name)(stage.main)


def main() -> None:
    """Entry point of the console script."""
    report_errors(app)
