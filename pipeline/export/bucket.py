"""Files below an address such as `s3://bucket/prefix`: object stores and whatever else pyarrow can open.

An object is put whole or not at all: pyarrow completes an upload when its stream is closed. What the store refuses for
a while (503, no connection) is tried again for about a minute.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import fs

from pipeline.errors import SynthGainError
from pipeline.redaction import without_secrets
from pipeline.runtime.progress import progress

Value = TypeVar("Value")

_SECONDS_BETWEEN_TRIES = (1, 2, 4, 8, 16, 32)
# What passes, in the words of the AWS library under pyarrow; everything else is final.
_FOR_A_WHILE = re.compile(
    "SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|NETWORK_CONNECTION|REQUEST_TIMEOUT|THROTTLING|503|500"
)
_CHUNK = 8 << 20
_SPARE = 1 << 30  # bytes that stay free on a disk


def is_address(text: str) -> bool:
    """Whether this names a place behind an address and not a folder."""
    return "://" in text


@dataclass(frozen=True)
class Bucket:
    """A place for files in an object store.

    Attributes:
        address: as the user gives it, `s3://bucket/prefix`.
    """

    address: str

    @property
    def _opened(self) -> tuple[Any, str]:
        return _open(self.address)

    def __truediv__(self, name: str) -> Bucket:
        """What lies below."""
        scheme, query, rest = self.address.partition("?")
        return Bucket(f"{scheme.rstrip('/')}/{name}{query}{rest}")

    def __str__(self) -> str:
        """The address without what is secret in it."""
        return without_secrets(self.address)

    def sizes(self) -> dict[str, int]:
        """The bytes of each object below, by its path with `/`; nothing if there is none.

        Raises:
            SynthGainError: if the store cannot be asked.
        """
        filesystem, root = self._opened

        def ask() -> list[Any]:
            selector = fs.FileSelector(root, recursive=True, allow_not_found=True)
            return list(filesystem.get_file_info(selector))

        found = self._tried(ask, "list it")
        return {
            info.path.removeprefix(f"{root}/"): int(info.size)
            for info in found
            if info.type == fs.FileType.File
        }

    def put(self, name: str, file: Path) -> None:
        """Write a file's bytes to an object, in place of what it was.

        Raises:
            SynthGainError: if the store does not take it.
        """
        filesystem, root = self._opened
        content_length = file.stat().st_size

        def upload() -> None:
            target = f"{root}/{name}"
            if isinstance(filesystem, fs.LocalFileSystem):
                filesystem.create_dir(target.rpartition("/")[0], recursive=True)
            with file.open("rb") as source, filesystem.open_output_stream(target) as sink:
                shutil.copyfileobj(source, sink, _CHUNK)
            found = filesystem.get_file_info(target).size
            if found != content_length:
                raise OSError(f"{name} has {found} bytes there, {content_length} were sent")

        self._tried(upload, f"put {name}")

    def read(self, name: str) -> bytes | None:
        """The bytes of a small object; None if it is not there.

        Raises:
            SynthGainError: if the store cannot be asked.
        """
        filesystem, root = self._opened

        def ask() -> bytes | None:
            path = f"{root}/{name}"
            if filesystem.get_file_info(path).type == fs.FileType.NotFound:
                return None
            with filesystem.open_input_stream(path) as source:
                return bytes(source.read())

        return self._tried(ask, f"read {name}")

    def get(self, name: str, file: Path) -> None:
        """Write an object's bytes to a file.

        Raises:
            SynthGainError: if the store does not give it.
        """
        filesystem, root = self._opened

        def download() -> None:
            file.parent.mkdir(parents=True, exist_ok=True)
            with filesystem.open_input_stream(f"{root}/{name}") as source, file.open("wb") as sink:
                shutil.copyfileobj(source, sink, _CHUNK)

        self._tried(download, f"get {name}")

    def remove(self, name: str) -> None:
        """Take an object away.

        Raises:
            SynthGainError: if the store does not allow it.
        """
        filesystem, root = self._opened
        self._tried(lambda: filesystem.delete_file(f"{root}/{name}"), f"remove {name}")

    def _tried(self, act: Callable[[], Value], words: str) -> Value:
        for seconds in (*_SECONDS_BETWEEN_TRIES, None):
            try:
                return act()
            except OSError as error:
                said = without_secrets(" ".join(str(error).split()))
                if seconds is None or not _FOR_A_WHILE.search(said):
                    raise SynthGainError(f"{self}: cannot {words}: {_reason(said)}") from None
            time.sleep(seconds)
        raise AssertionError("unreachable")


@cache
def _open(address: str) -> tuple[Any, str]:
    try:
        filesystem, path = fs.FileSystem.from_uri(address)
    except (ValueError, OSError, NotImplementedError) as error:
        raise SynthGainError(
            f"{without_secrets(address)}: {' '.join(str(error).split())[:200]}; an address such as s3://bucket/prefix,"
            " gs://bucket/prefix or file:///folder is needed"
        ) from None
    if not path.strip("/"):
        raise SynthGainError(f"{without_secrets(address)}: names no bucket; s3://bucket/prefix is needed")
    return filesystem, path.rstrip("/")


def _reason(said: str) -> str:
    """What the store's library says, without its own prelude and the number of the request."""
    said = re.sub(r" ?\(Request ID: [^)]*\)", "", said)
    found = re.search(r"AWS Error ([A-Z_ ]+) during (\w+) operation: (.*)", said)
    return f"{found[1]} ({found[3]})" if found else said[:300]


@contextmanager
def local_copy(address: str) -> Iterator[Path]:
    """What lies below an address, as files in a folder that is taken away afterwards; of a folder, itself.

    Raises:
        SynthGainError: if nothing lies there, the disk has no room for it, or the store does not give it.
    """
    if not is_address(address):
        yield Path(address)
        return
    bucket = Bucket(address)
    sizes = bucket.sizes()
    if not sizes:
        raise SynthGainError(f"{bucket}: nothing lies there")
    with tempfile.TemporaryDirectory(prefix="synthgain-") as name:
        folder, needed = Path(name), sum(sizes.values())
        if (free := shutil.disk_usage(folder).free) < needed + _SPARE:
            raise SynthGainError(
                f"{bucket}: {needed:,} bytes, and {folder.parent} has room for {free:,}; name a folder on a larger disk"
                " in TMPDIR"
            )
        with progress(f"fetching {bucket}", needed, "bytes") as advance:
            for path, size in sorted(sizes.items()):
                bucket.get(path, folder / path)
                advance(size)
        yield folder


def shown(place: str, folder: Path, path: Path) -> str:
    """The name of something in a `local_copy`, as the user knows it."""
    if not is_address(place):
        return str(path)
    return str(Bucket(place) / path.relative_to(folder).as_posix()) if path != folder else str(Bucket(place))
