"""Somebody else's program, started once and watched: no shell, a time limit, a log, and an end in one line."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

# What a log keeps of the output: its beginning and its end. A program may print without an end.
_FIRST_BYTES, _LAST_CHUNKS, _CHUNK = 1_000_000, 16, 4096
_LONGEST_LAST_LINE = 200
_SECONDS_BETWEEN_LOOKS = 0.05
_SECONDS_BETWEEN_SIZES = 2.0
_SECONDS_TO_SAY_THE_LAST = 2.0
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


class ProgramFailed(Exception):
    """Why a program has not done its work, in a line."""


def run_program(
    arguments: Sequence[str],
    *,
    out: Path,
    log: Path,
    seconds: float,
    most_bytes: int,
) -> None:
    """Start a program in the current folder and wait for its end; nothing that it started goes on after it.

    `python` is the Python that runs this. The program ends with this process, and reads nothing from the terminal.

    Args:
        arguments: the program and what it is told, as they are: no shell reads them.
        out: the folder that it writes into; watched, so that it cannot fill the disk.
        log: gets its output, of a long one the beginning and the end.
        seconds: its time limit.
        most_bytes: that the folder may have.

    Raises:
        ProgramFailed: if it cannot be started, takes too long, writes too much, or ends with a status other than 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONDONTWRITEBYTECODE": "1",  # a folder of code that changes would run again
        "PYTHONUNBUFFERED": "1",
    }
    try:
        process = subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent(),  # one call of the C library
        )
    except OSError as error:
        raise ProgramFailed(f"cannot be started: {arguments[0]}: {error.strerror}") from None
    output = process.stdout
    assert output is not None, "a pipe"
    tail: deque[bytes] = deque(maxlen=_LAST_CHUNKS)
    reader = threading.Thread(target=_keep, args=(output, log, tail), daemon=True)
    reader.start()
    try:
        problem = _watch(process, out, seconds, most_bytes)
    finally:
        _end_group(process)
        reader.join(_SECONDS_TO_SAY_THE_LAST)
    if problem is None and process.returncode:
        problem = f"ended with {_status_words(process.returncode)}"
    if problem is not None:
        last = _last_line(tail)
        said = f'; its last line: "{last}"' if last else "; it printed nothing"
        raise ProgramFailed(f"{problem}{said}; its output is in {log}")


def _end_with_parent() -> Callable[[], None] | None:
    """What the new process does first: ask Linux to end it when this one ends, however it ends."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # found before the fork: afterwards, only one call is safe
    return lambda: prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _watch(
    process: subprocess.Popen[bytes],
    out: Path,
    seconds: float,
    most_bytes: int,
) -> str | None:
    """Wait for the end; what went wrong meanwhile."""
    start = time.monotonic()
    next_size = start + _SECONDS_BETWEEN_SIZES
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_BETWEEN_LOOKS)
            return None
        now = time.monotonic()
        if now - start > seconds:
            return f"was still running after {seconds / 60:g} minutes (generator.minutes), and was ended"
        if now > next_size:
            if problem := too_large(out, most_bytes):
                return f"{problem}, and was ended"
            next_size = time.monotonic() + _SECONDS_BETWEEN_SIZES


def too_large(folder: Path, most_bytes: int) -> str | None:
    """In words, that the files of a folder have more bytes than they may; None if they have not."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # gone meanwhile
                total += os.lstat(os.path.join(parent, name)).st_size
    if total <= most_bytes:
        return None
    return f"wrote {total / 1e6:,.0f} MB, and {most_bytes / 1e6:,.0f} MB are allowed for these images"


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the process, and what it started and left behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _keep(output: IO[bytes], log: Path, tail: deque[bytes]) -> None:
    """Write the output to the log, its end in the place of what is too much between."""
    left = _FIRST_BYTES
    left_out = 0
    late: deque[bytes] = deque(maxlen=_LAST_CHUNKS)
    with log.open("wb") as file:
        while chunk := os.read(output.fileno(), _CHUNK):
            tail.append(chunk)
            if left > 0:
                file.write(chunk)
                file.flush()
                left -= len(chunk)
            else:
                left_out += len(chunk)
                late.append(chunk)
        if late:
            skipped = left_out - sum(map(len, late))
            file.write(f"\n… {skipped:,} bytes are left out here …\n".encode() if skipped else b"")
            file.write(b"".join(late))
    output.close()


def _last_line(tail: deque[bytes]) -> str:
    lines = b"".join(list(tail)).decode("utf-8", "replace").split("\n")
    line = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return line if len(line) <= _LONGEST_LAST_LINE else f"{line[:_LONGEST_LAST_LINE]}…"


def _status_words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
