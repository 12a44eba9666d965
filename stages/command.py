"""How every stage starts and fails: plumbing around Typer, not a stage."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import SynthGainError

ParamsFile = Annotated[Path, typer.Option("--params", help="The parameter file.", show_default=True)]
PARAMS_FILE = Path("params.yaml")


def run(main: Callable[..., None]) -> None:
    """Run a stage's function as a command of its own: `python -m stages.<name>`."""
    # OpenMP's threads spin while they wait for each other. With the default of milliseconds, a neighbour that
    # wants a core too makes training many times slower; after this many turns (some 0.1 ms) they sleep instead.
    # Read when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    if "DVC_STAGE" in os.environ:
        _die_with_parent()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    report_errors(app)


def report_errors(app: Callable[[], Any]) -> None:
    """Run an app; bad input ends in one clear line (or one per problem) and exit status 1."""
    try:
        app()
    except SynthGainError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(1)
    except MemoryError:
        print(
            "error: out of memory; lower the batch sizes or the number of images in params.yaml",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            "interrupted: nothing half-written is left behind; the same command starts again", file=sys.stderr
        )
        sys.exit(130)
    except OSError as error:  # disk full, no permission: the system's own words name the file
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _die_with_parent() -> None:
    """Ask Linux to end this process when DVC is killed: an orphan would later overwrite the outputs of a new run."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # DVC may have died before that call: then whoever adopts orphans is the parent by now, and not of our group.
    if os.getpgid(os.getppid()) != os.getpgrp():
        os.kill(os.getpid(), signal.SIGKILL)
