"""Outputs that are there whole or not at all, and one writer each."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from pipeline.errors import SynthGainError

WORK = Path(".work")  # for what a kill must not lose; outside of DVC's outs, and not in Git

_SYNCING_AT_ONCE, _LOT = 8, 16

# Outputs that a thread of this process holds the lock of: (thread, name of the lock).
_held: set[tuple[int, str]] = set()

# What is asked before a finished output takes its place (`outputs_checked_by`).
_check: Callable[[Path], None] = lambda path: None  # noqa: E731


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` (file or folder) that takes its place when the block ends well.

    Killed, failed or cut off from power in between, `path` is as it was before; what a killed process left is removed
    by the next. Only a folder that takes the place of another cannot do so in one step: killed between two, the next
    puts it back.

    Raises:
        SynthGainError: if another process is writing the same output.
    """
    with only_writer(path):
        is_new = not path.parent.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(path)
        temporary, before = _temporaries(path)
        try:
            yield temporary
            _check(path)
            if path.is_dir():  # os.replace cannot replace a folder that holds something
                _to_disk(temporary)
                os.replace(path, before)
            put_in_place(temporary, path)
            if before.exists():
                os.replace(before, temporary)  # a name under which half of a folder is never put back
        finally:
            _remove(temporary)
            if is_new and not path.exists():
                with suppress(OSError):  # another output came into it meanwhile
                    path.parent.rmdir()


def put_in_place(finished: Path, target: Path) -> None:
    """Rename a finished file or folder to its final name, where no folder is, so that a power cut leaves it whole."""
    _to_disk(finished)
    os.replace(finished, target)
    _sync(target.parent)


def clear_leftovers(path: Path) -> None:
    """Remove what a killed process left half-written of an output; its last whole version is put back.

    For the holder of the output's lock.
    """
    temporary, before = _temporaries(path)
    _remove(temporary)
    if before.exists():  # killed after a folder had gone aside: without its successor, or with it
        os.replace(before, temporary if path.exists() else path)
        _remove(temporary)


def output_of_temporary(temporary: Path) -> Path:
    """The output that a temporary path of `atomic_output` belongs to."""
    name = temporary.name.removeprefix(".").removesuffix(".tmp").removesuffix(".before")
    return temporary.with_name(name)


def _temporaries(path: Path) -> tuple[Path, Path]:
    """Where the next version is written, and where a folder stays while the next takes its place."""
    return path.parent / f".{path.name}.tmp", path.parent / f".{path.name}.before.tmp"


@contextmanager
def outputs_checked_by(check: Callable[[Path], None]) -> Iterator[None]:
    """While the block runs, each finished output is checked before it takes its place; `check` raises to stop it."""
    global _check
    before, _check = _check, check
    try:
        yield
    finally:
        _check = before


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lock of an output: two writers at once would put each other's half-written files in place.

    A thread that holds it may ask for it again. It lies in the system's folder for temporary files: beside the
    output, DVC would count it as data.

    Raises:
        SynthGainError: if another process, or another thread, holds it.
    """
    if sys.platform == "win32":  # without flock, two at once are not noticed
        yield
        return
    lock = _lock_of(path)
    held = (threading.get_ident(), lock.name)
    if held in _held:
        yield
        return
    while True:
        with lock.open("a+") as file:  # not emptied: it may be another's, who wrote its number into it
            if not _locked(file):
                raise SynthGainError(
                    f"{path}: another process{_named_in(file)} is writing it; wait for it, or stop it"
                )
            if not lock.exists() or os.fstat(file.fileno()).st_ino != lock.stat().st_ino:
                continue  # removed by its holder between our opening and locking it
            file.truncate(0)
            print(os.getpid(), file=file, flush=True)
            _held.add(held)
            try:
                yield
            finally:
                _held.discard(held)
                lock.unlink(missing_ok=True)
            return


def is_being_written(path: Path) -> bool:
    """Whether a process of this user, or another thread of this one, holds the lock of an output now."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        with _lock_of(path).open() as file:  # shared and for a moment: two who look do not see each other
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def writer_of(path: Path) -> str | None:
    """The process number of who is writing an output now, or `unknown`; None: nobody of this user."""
    if not is_being_written(path):
        return None
    try:
        number = _lock_of(path).read_text().strip()
    except OSError:  # it has ended meanwhile
        return None
    return number if number.isdecimal() else "unknown"


def _lock_of(path: Path) -> Path:
    """A user's own: the file that somebody else left behind after a kill could not be opened."""
    place = hashlib.sha256(os.path.realpath(path).encode()).hexdigest()[:32]
    return Path(tempfile.gettempdir()) / f"synthgain-{os.getuid()}-{place}.lock"


def _named_in(lock: IO[str]) -> str:
    """The holder's process number, if it has written it already."""
    lock.seek(0)
    number = lock.read(20).strip()
    return f" ({number})" if number.isdecimal() else ""


def _locked(file: IO[str]) -> bool:
    """Take a file's lock, which the system gives back when this process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: without it, two runs at once are not noticed
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _to_disk(path: Path) -> None:
    """Wait until a file, or all of a folder, is on the disk for good.

    Renamed before that, it may be empty under its final name after a power cut. On ext4 (virtual disk) a file costs
    0.3 to 4 ms, and a folder of 1000 as much as 4 s one after another, 0.1 s by several threads: those that wait
    together share a commit of the file system's journal.
    """
    if path.is_symlink() or not path.is_dir():
        _sync(path)
        return
    with ThreadPoolExecutor(_SYNCING_AT_ONCE) as pool:
        for folder, _, names in os.walk(path):
            # In small lots: what is not begun is given up on an error or Ctrl-C.
            lots = [names[first : first + _LOT] for first in range(0, len(names), _LOT)]
            list(pool.map(partial(_sync_files, Path(folder)), lots))
            _sync(Path(folder))


def _sync_files(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        _sync(folder / name)


def _sync(path: Path) -> None:
    if sys.platform == "win32":  # which syncs no folder, and no file that is open for reading
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:  # a block that wrote nothing: the rename says so; or a link that leads nowhere
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot, as some of networks
            raise
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or none of it."""
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
