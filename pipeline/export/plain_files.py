"""The files below a folder that came from outside: named without opening one, and opened only if they are plain.

A pipe would wait for ever, `/dev/zero` never ends, and a link leads out of the folder.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

# Files of one folder tree that are looked at: their names are kept, some 300 bytes each.
MOST_FILES = 1_500_000


class NoPlainFile(Exception):
    """Why something is not opened, or not read to its end."""


@dataclass(frozen=True)
class Listing:
    """What lies below a folder.

    Attributes:
        sizes: bytes of each plain file by its path with `/`.
        others: what is neither a plain file nor a folder, and what it is, by path.
        complete: False if there are more than `MOST_FILES`.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    complete: bool = True


def list_files(root: Path) -> Listing:
    """Everything below a folder by path; no link is followed and nothing is opened but folders."""
    sizes: dict[str, int] = {}
    others: dict[str, str] = {}
    for path, entry in _entries(root):
        if len(sizes) + len(others) == MOST_FILES:
            return Listing(sizes, others, complete=False)
        if entry.is_file(follow_symlinks=False):
            sizes[path] = entry.stat(follow_symlinks=False).st_size
        else:
            others[path] = kind_of(entry.stat(follow_symlinks=False).st_mode)
    return Listing(sizes, others)


def _entries(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All but folders; without recursion, which deep folders would exhaust."""
    left = [""]
    while left:
        below = left.pop()
        try:
            with os.scandir(root / below) as entries:
                for entry in entries:
                    path = f"{below}/{entry.name}" if below else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        left.append(path)
                    else:
                        yield path, entry
        except OSError as error:
            raise NoPlainFile(f"{below or '.'}: cannot be listed ({error.strerror})") from None


def kind_of(mode: int) -> str:
    """What a file is that is no plain one, in words."""
    kinds = (
        (stat.S_ISLNK, "a link"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISDIR, "a folder"),
    )
    return next((name for test, name in kinds if test(mode)), "a device")


def plain_file(root: Path, name: str) -> Path:
    """The path of a plain file below a folder, no part of which is a link.

    Raises:
        FileNotFoundError: if it is not there.
        NoPlainFile: if it is something else, or leads out of the folder.
    """
    if reason := leads_out(name):
        raise NoPlainFile(reason)
    step = root
    for part in PurePosixPath(name).parts:
        step /= part
        mode = step.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise NoPlainFile("a link, or behind one")
    if not stat.S_ISREG(mode):
        raise NoPlainFile(f"{kind_of(mode)}, not a plain file")
    return step


def leads_out(name: str) -> str | None:
    """Why a path that a file names must not be followed; None if it may."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or "\0" in name or ":" in name or not parts or ".." in parts:
        return "a path that leads out of the folder"
    return None


def read_plain(root: Path, name: str, *, most_bytes: int) -> bytes:
    """The bytes of a plain file below a folder, its size checked before it is read.

    Raises:
        FileNotFoundError: if it is not there.
        NoPlainFile: if it is no plain file, or larger.
    """
    path = plain_file(root, name)
    if (size := path.stat().st_size) > most_bytes:
        raise NoPlainFile(f"{size:,} bytes; up to {most_bytes:,} are read")
    with path.open("rb") as file:
        return file.read(most_bytes)  # what grows meanwhile is not read further


def strict_json(text: bytes | str) -> Any:
    """The values of a JSON text in which no key stands twice: two readers might take another one of them each.

    Raises:
        ValueError: if it is no JSON, a key stands twice, or a number is none (NaN, Infinity).
        RecursionError: if it is nested too deeply.
    """

    def once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise ValueError(f"the key {twice[:80]!r} stands there twice")
        return values

    def refused(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, object_pairs_hook=once, parse_constant=refused)
