"""How every stage starts and fails: plumbing around Typer, not a stage.

Exit statuses: 0 done, 1 what the message says can be mended, 2 wrong usage, 70 a fault of the program,
130 interrupted (Ctrl-C), 143 ended by a signal (SIGTERM). docs/faults.md lists the messages.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from pipeline.errors import SynthGainError
from pipeline.redaction import without_control_characters, without_secrets

ParamsFile = Annotated[Path, typer.Option("--params", help="The parameter file.", show_default=True)]
PARAMS_FILE = Path("params.yaml")


def _checked_budget(text: str) -> str:
    """It becomes part of a path."""
    if text != "all" and not text.isdecimal():
        raise SynthGainError(f"--budget: found {text}; a whole number of images, or all")
    return text


# The coordinates of the matrix, as DVC writes them.
Budget = Annotated[
    str,
    typer.Option(help="Real images per replicate, one of study.real_images.", callback=_checked_budget),
]
Ratio = Annotated[
    str,
    typer.Option("--synthetic-per-real", "--synthetic_per_real", help="Synthetic images per real image."),
]

# What `train_gan` says of its GANs.
Collapsed = Annotated[
    Path, typer.Option(help="Folder of the files that say which GANs collapsed, <budget>.json each.")
]

# Taken off the command line before Typer sees it: it belongs to no command, and goes with each.
DEBUG_FLAG = "--debug"
DEBUG_VARIABLE = "SYNTHGAIN_DEBUG"

_INTERNAL_FAULT = 70  # sysexits.h: EX_SOFTWARE
# Of a stage whose DVC has ended. A new run that comes to the same stage sooner is told that it is still being written.
_SECONDS_TO_TIDY_UP = 1.0
_SECONDS_OF_AN_IMPORT, _SECONDS_UNTIL_ASKED_AGAIN = 20.0, 0.02
_INTERRUPTED, _TERMINATED = 130, 143  # as shells say it: 128 + the signal's number
# What torch, safetensors and the system's loader of libraries say instead of raising MemoryError or OSError.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can(?:'|no)t allocate memory|not enough memory|failed to map segment|can't start new thread",
    re.IGNORECASE,
)
_DISK_FULL = re.compile(
    r"no space left|disk quota|file too large|file write failed|os error (?:28|122|27)\b", re.IGNORECASE
)
# What our own output holds beyond ASCII.
_PLAIN = dict(zip("✓✗×·…–−Δ±→─━│’≥≤●├┤", "+ x x - ... - - d +- -> - - | ' >= <= o | |".split(), strict=True))
# The backend of a notebook cannot be loaded outside of it; the repository of a Git hook is not that of the study.
_OF_OTHERS = (
    *("MPLBACKEND", "MATPLOTLIBRC"),
    *(
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
    ),
)


class _Ended(BaseException):
    """SIGTERM: on the way up, half-written outputs are removed as after Ctrl-C."""


# A first signal was heard: what it began to tidy up must not be cut short by our own watch over DVC.
_ending = threading.Event()


def run(main: Callable[..., None]) -> None:
    """Run a stage's function as a command of its own: `python -m stages.<name>`."""
    if "DVC_STAGE" in os.environ:
        _end_with_dvc()
        main = _with_same_inputs(main)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    report_errors(app)


def _with_same_inputs(main: Callable[..., None]) -> Callable[..., None]:
    """A stage that fails where its inputs have changed while it ran: DVC would write down the new ones."""

    @wraps(main)
    def watched(**options: Any) -> None:
        from pipeline.runtime.stage_inputs import declared_inputs, same_inputs
        from pipeline.runtime.store import shrink, this_store

        inputs = declared_inputs(
            Path(main.__code__.co_filename).stem,
            name=os.environ["DVC_STAGE"].rpartition(":")[2],
            params_file=options.get("params_file", PARAMS_FILE),
            arguments=sys.argv,
        )
        if inputs is None:  # a command of somebody else's dvc.yaml
            main(**options)
            return
        with same_inputs(inputs):
            main(**options)
        shrink(this_store())

    return watched


def report_errors(app: Callable[[], Any]) -> None:
    """Run an app; what goes wrong ends in one clear line (or one per problem) and an exit status.

    With `--debug` on the command line, or SYNTHGAIN_DEBUG in the environment, the traceback comes before it.
    """
    # OpenMP's threads spin while they wait for each other. With the default of milliseconds, a neighbour that
    # wants a core too makes training many times slower; after this many turns (some 0.1 ms) they sleep instead.
    # Read when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    _file_names_in_utf_8()
    _any_terminal()
    _any_environment()
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    if DEBUG_FLAG in sys.argv:
        debug = True
        sys.argv = [part for part in sys.argv if part != DEBUG_FLAG]
    with _signals_unwind():
        try:
            app()
        except SystemExit as ending:
            if ending.code == _INTERRUPTED:  # all that Typer leaves of a KeyboardInterrupt
                print(explain(KeyboardInterrupt())[0][0], file=sys.stderr)
            raise
        except (Exception, KeyboardInterrupt, _Ended) as error:
            if debug:
                print(without_secrets(traceback.format_exc()), end="", file=sys.stderr)
            lines, status = explain(error)
            for line in lines:
                print(without_control_characters(without_secrets(line)), file=sys.stderr)
            sys.exit(status)


def _file_names_in_utf_8() -> None:
    """Begin anew where Python takes file names for another encoding: a class `手` could have no folder there.

    Everything else speaks to the terminal in its own encoding, as before. DVC and the stages inherit it.
    """
    if sys.getfilesystemencoding().lower() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"  # read when Python starts, and never again
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding or "utf-8")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _any_terminal() -> None:
    """Output never fails on a sign that the terminal's encoding lacks: ASCII stands for it, or its number."""

    def plain(error: UnicodeError) -> tuple[str | bytes, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        signs = error.object[error.start : error.end]
        words = (_PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in signs)
        return "".join(words), error.end

    codecs.register_error("synthgain-plain", plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no notebook's, and no test's
            stream.reconfigure(errors="synthgain-plain")


def _any_environment() -> None:
    """Settings that notebooks, IDEs, hooks and build tools leave, and that would stop a stage: of their own only."""
    if os.environ.pop("PYTHONWARNINGS", None):  # workers inherit it
        sys.warnoptions.clear()
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
    for name in _OF_OTHERS:
        os.environ.pop(name, None)


def explain(error: BaseException) -> tuple[list[str], int]:
    """The lines for the user, and the exit status."""
    if isinstance(error, SynthGainError):
        return [f"error: {line}" for line in str(error).splitlines()], 1
    if isinstance(error, KeyboardInterrupt | _Ended):
        what, status = (
            ("interrupted", _INTERRUPTED) if isinstance(error, KeyboardInterrupt) else ("ended", _TERMINATED)
        )
        return [f"{what}: nothing half-written is left behind; the same command starts again"], status
    text = ""
    if not isinstance(error, MemoryError):  # the next allocation may fail as well
        text = without_secrets(" ".join(str(error).split()))  # before it is cut: half a password is not found
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(text):
        advice = "lower the batch sizes or the number of images in params.yaml, or end what else runs here"
        return [f"error: out of memory; {advice}"], 1
    if _DISK_FULL.search(text):
        return [
            f"error: the disk is full, or a quota reached ({text[:200]}); make room and give the same command"
            " again, nothing half-written is left behind"
        ], 1
    if isinstance(error, OSError):  # no permission, too many links: the system's own words name the file
        return [f"error: {text}"], 1
    where = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(where[-1].filename).name}:{where[-1].lineno}" if where else ""
    return [
        f"error: a fault of the program: {type(error).__name__}{place}: {text[:300] or 'no message'}; give the"
        f" same command with {DEBUG_FLAG} for the traceback, and report it"
    ], _INTERNAL_FAULT


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """SIGTERM unwinds the stack like Ctrl-C, for as long as the block runs; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():  # Python hears signals in the main thread
        yield
        return
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _raising(_Ended))}
    # A shell's background job does not hear Ctrl-C, and should not begin to.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _raising(KeyboardInterrupt))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raising(error: type[BaseException]) -> Callable[[int, FrameType | None], None]:
    """A handler that raises `error`, but never within an import.

    There, libraries take it for a missing module and go on, or abort the process (torch).
    """
    heard: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        _ending.set()
        heard.append(time.monotonic())
        if os.name == "posix" and _is_importing(frame) and heard[-1] - heard[0] < _SECONDS_OF_AN_IMPORT:
            signal.signal(signal.SIGALRM, handle)  # no thread: its locks may be held by what was interrupted
            signal.setitimer(signal.ITIMER_REAL, _SECONDS_UNTIL_ASKED_AGAIN)
            return
        if error is _Ended:  # a second one ends the process at once
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise error

    return handle


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end_with_dvc() -> None:
    """End this process as soon as its DVC has ended: an orphan would later overwrite the outputs of a new run.

    Between the two stands a shell, which some shells (bash) give their place to the command and others (dash) do not.
    DVC is the nearest ancestor that was not started for this stage.
    """
    if os.name != "posix":
        return
    import psutil

    def was_started_for_this_stage(process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get("DVC_STAGE") == os.environ["DVC_STAGE"])
        except psutil.Error:  # somebody else's, as the first process of the machine
            return False

    def lives(process: psutil.Process) -> bool:
        try:
            return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False

    def wait_for_its_end() -> None:
        while lives(dvc):  # not `wait`, which takes a process that nobody has collected for alive
            time.sleep(0.2)
        if not _ending.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SECONDS_TO_TIDY_UP)
        os.kill(os.getpid(), signal.SIGKILL)

    above = [process for process in psutil.Process().parents() if not was_started_for_this_stage(process)]
    # It may have died already: then whoever adopts orphans has taken its place, and is not of our group.
    if not above or os.getpgid(above[0].pid) != os.getpgrp():
        os.kill(os.getpid(), signal.SIGKILL)
    dvc = above[0]
    threading.Thread(target=wait_for_its_end, name="end with DVC", daemon=True).start()
