"""`synthgain inspect`: what is in an export or in a file of labelled images."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="An export, or a file of labelled images.")
    ],
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet, a row per class, to this PNG.")
    ] = None,
    per_class: Annotated[int, typer.Option(min=1, max=100, help="Pictures of each class on it.")] = 10,
    force: Annotated[bool, typer.Option("--force", help="Replace the sheet if it is there.")] = False,
) -> None:
    """Show counts per class and origin, and on request a contact sheet.

    Example: synthgain inspect data/export --sheet sheet.png
    """
    from pipeline.errors import SynthGainError
    from pipeline.export.inspect import inspect, save_contact_sheet
    from pipeline.redaction import without_control_characters

    if sheet is not None and sheet.exists() and not force:
        raise SynthGainError(f"{sheet}: is there already; name another file, or pass --force to replace it")
    contents = inspect(path, per_class=per_class)
    height, width = contents.image_size
    synthetic, real = (sum(column) for column in zip(*contents.counts, strict=True))

    def say(text: str) -> None:
        typer.echo(without_control_characters(text))

    say(f"{path}: {contents.kind}")
    colour = " in colour" if contents.pictures[0].ndim == 4 else ""
    say(f"{synthetic} synthetic and {real} real images of {width}×{height} pixels{colour}")
    say("")
    class_names = [without_control_characters(name) for name in contents.class_names]
    name_width = max(5, *map(len, class_names))
    say(f"label  {'class':<{name_width}}  synthetic  real")
    for label, (name, counts) in enumerate(zip(class_names, contents.counts, strict=True)):
        say(f"{label:>5}  {name:<{name_width}}  {counts[0]:>9}  {counts[1]:>4}")
    say("")
    for name, value in contents.facts.items():
        say(f"{name}: {value}")
    if sheet is not None:
        save_contact_sheet(contents, sheet)
        say(f"contact sheet: {sheet}")
