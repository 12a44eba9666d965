"""The console app `synthgain`: every stage as a command, and the tools around them.

Stages import their libraries when they run, so that `synthgain --help` answers at once.
"""

import typer

from stages import (
    compare,
    download,
    evaluate_classifiers,
    evaluate_synthetic,
    export,
    generate,
    literature,
    prepare,
    report,
    track,
    train_augmented,
    train_baselines,
    train_extractor,
    train_gan,
    workspace,
)
from stages.command import report_errors

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Does adding GAN images help my classifier, how much, at which ratio, and more than classic augmentation?",
)
app.command("demo", rich_help_panel="Start here")(workspace.demo)
app.command("literature", rich_help_panel="Start here")(literature.literature)
app.command("workspace", rich_help_panel="Start here")(workspace.workspace)
for stage in (
    download,
    prepare,
    train_extractor,
    train_gan,
    generate,
    evaluate_synthetic,
    train_baselines,
    train_augmented,
    evaluate_classifiers,
    compare,
    report,
    track,
    export,
):
    name = stage.__name__.rpartition(".")[2].replace("_", "-")
    app.command(name, rich_help_panel="Stages of dvc.yaml, one by one")(stage.main)


def main() -> None:
    """Entry point of the console script."""
    report_errors(app)
