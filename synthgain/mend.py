"""`synthgain mend`: after a kill that came while DVC wrote a file of its own."""

from pathlib import Path

import typer


def mend() -> None:
    """Put away what a killed DVC left half-written (.dvc/tmp/rwlock, dvc.lock), so that `dvc repro` goes on.

    It says what it did, and nothing if nothing is wrong. `make repro` begins with it.

    Example: synthgain mend
    """
    from pipeline.maintenance.dvc_state import mend

    for line in mend(Path.cwd()):
        typer.echo(line)
