"""`synthgain doctor`: what is wrong with this installation and with the results that lie here."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile

if TYPE_CHECKING:
    from pipeline.maintenance.findings import Check


def doctor(
    params_file: ParamsFile = PARAMS_FILE,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Repair what a kill left behind, and tidy the store; a line for each thing."
        ),
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON object instead of lines to read.")
    ] = False,
) -> None:
    """Look at the environment, the data, DVC's objects, the store, processes, cells and MLflow; change nothing.

    One line per finding: where, what, and how to repair it. The exit status is 0 if there is none, 1 if there are.

    With --fix, look at nothing else: repair what takes a moment and loses
    nothing (docs/running.md lists it). It prints a line for each thing, and
    nothing if nothing is wrong. `make repro` begins with it.

    Example: synthgain doctor --fix
    """
    if fix and json_output:
        raise typer.BadParameter("--fix prints lines only; leave --json out")
    if fix:
        from pipeline.maintenance.fixing import fix as fix_all

        for line in fix_all(Path.cwd()):
            typer.echo(line)
        return
    import json

    from pipeline.maintenance.doctor import examine
    from pipeline.maintenance.findings import as_json
    from pipeline.runtime.progress import counted

    checks = []
    for check in examine(Path.cwd(), params_file):
        checks.append(check)
        if not json_output:
            _show(check)
    count = sum(len(check.findings) for check in checks)
    if json_output:
        typer.echo(json.dumps(as_json(checks), indent=2))
    else:
        typer.echo(counted(count, "finding") if count else "nothing wrong")
    if count:
        raise typer.Exit(1)


def _show(check: "Check") -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    sign = "[red]✗[/red]" if check.findings else "[green]✓[/green]"
    console.print(f"{sign} [bold]{check.name}[/bold]  [dim]{escape(check.seen)}[/dim]")
    for finding in check.findings:
        console.print(
            f"  [red]{escape(finding.where)}[/red]: {escape(finding.problem)};"
            f" [green]{escape(finding.remedy)}[/green]"
        )
