"""`synthgain verify`: whether an export is what it was. Needs neither torch nor DVC."""

from typing import Annotated

import typer


def verify(
    place: Annotated[
        str,
        typer.Argument(
            metavar="DIR|URL", help="An export, or what holds one per format; s3://… is fetched first."
        ),
    ],
) -> None:
    """Check every file, hash, count, label and pixel of an export, its card and its Croissant.

    One line per finding. The exit status is 0 if there is none, 1 if there are, 2 if the command is wrong.

    Example: synthgain verify data/export
    """
    from pipeline.export.bucket import local_copy, shown
    from pipeline.export.verify import find_exports, verify
    from pipeline.redaction import without_control_characters

    sound = True
    with local_copy(place) as folder:
        for export in find_exports(folder):
            findings = verify(export)
            for finding in findings or ["ok"]:
                typer.echo(without_control_characters(f"{shown(place, folder, export)}: {finding}"))
            sound &= not findings
    if not sound:
        raise typer.Exit(1)
