"""The console app `synthgain`: the hand-over commands, every stage of dvc.yaml, and the tools around them.

Commands import their libraries when they run, so that `synthgain --help` answers at once.
"""

import typer

from stages import (
    compare,
    doctor,
    download,
    evaluate_classifiers,
    evaluate_synthetic,
    export,
    generate,
    handover_export,
    handover_generate,
    handover_inspect,
    handover_verify,
    literature,
    mend,
    prepare,
    report,
    reproduce_check,
    score_labels,
    track,
    train_augmented,
    train_baselines,
    train_controls,
    train_extractor,
    train_fill,
    train_gan,
    workspace,
)
from stages.command import report_errors

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Does adding GAN images help my classifier, how much, at which ratio, and more than classic augmentation?",
    epilog="--debug anywhere on the line (or SYNTHGAIN_DEBUG=1) shows the traceback of an error.",
)
app.command("demo", rich_help_panel="Start here")(workspace.demo)
app.command("literature", rich_help_panel="Start here")(literature.literature)
app.command("workspace", rich_help_panel="Start here")(workspace.workspace)
app.command("doctor", rich_help_panel="When in doubt")(doctor.main)
app.command("mend", rich_help_panel="When in doubt")(mend.main)
app.command("reproduce-check", rich_help_panel="When in doubt")(reproduce_check.main)
for command, name in (
    (handover_generate, "generate"),
    (handover_export, "export"),
    (handover_verify, "verify"),
    (handover_inspect, "inspect"),
):
    app.command(name, rich_help_panel="Labelled synthetic images to take away")(command.main)

stage_app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
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
    train_gan,
    generate,
    evaluate_synthetic,
    score_labels,
    train_baselines,
    train_controls,
    train_augmented,
    train_fill,
    evaluate_classifiers,
    compare,
    report,
    track,
    export,
):
    stage_app.command(stage.__name__.rpartition(".")[2].replace("_", "-"))(stage.main)


def main() -> None:
    """Entry point of the console script."""
    report_errors(app)
