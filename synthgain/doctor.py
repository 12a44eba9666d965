"""`synthgain doctor`: what is wrong with this installation and with the results that lie here."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile


def doctor(
    params_file: ParamsFile = PARAMS_FILE,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON object instead of lines to read.")
    ] = False,
) -> None:
    """Look at the environment, the data, DVC's objects, processes, cells and MLflow; change nothing.

    One line per finding: where, what, and how to mend it. The exit status is 0 if there is none, 1 if there are.

    Example: synthgain doctor
    """
    import json

    from rich.console import Console
    from rich.markup import escape

    from pipeline.maintenance.doctor import as_json, examine

    console = Console(highlight=False, soft_wrap=True)
    checks = []
    for check in examine(Path.cwd(), params_file):
        checks.append(check)
        if json_output:
            continue
        sign = "[red]✗[/red]" if check.findings else "[green]✓[/green]"
        console.print(f"{sign} [bold]{check.name}[/bold]  [dim]{escape(check.seen)}[/dim]")
        for finding in check.findings:
            console.print(
                f"  [red]{escape(finding.where)}[/red]: {escape(finding.what)};"
                f" [green]{escape(finding.remedy)}[/green]"
            )
    count = sum(len(check.findings) for check in checks)
    if json_output:
        typer.echo(json.dumps(as_json(checks), indent=2))
    else:
        console.print(f"{count} finding{'' if count == 1 else 's'}" if count else "nothing wrong")
    if count:
        raise typer.Exit(1)
