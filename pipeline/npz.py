"""NumPy's archives of arrays (`.npz`): written with the same bytes for the same content, read without surprises."""

from __future__ import annotations

import math
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.runtime.outputs import atomic_output

# What reading an .npz file raises where a disk or a copy has damaged it.
DAMAGE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
_BYTES_AT_ONCE = 1 << 20
_MOST_OF_A_HEADER = 4096


@dataclass(frozen=True)
class ArrayOnDisk:
    """A uint8 array in C order that lies in a file as it is.

    Attributes:
        path: the file.
        shape: of the array.
        start: where its first byte lies.
    """

    path: Path
    shape: tuple[int, ...]
    start: int = 0

    def rows(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(n, *shape[1:]) uint8: the rows at these positions, in their order.

        Raises:
            SynthGainError: if the file has become shorter.
        """
        rows = np.empty((len(positions), *self.shape[1:]), dtype=np.uint8)
        size = math.prod(self.shape[1:])
        order = np.argsort(positions, kind="stable")
        wanted = positions[order]
        # One read per run of neighbours. No memory map: its pages would count as this process's memory.
        with self.path.open("rb") as file:
            for run in np.split(np.arange(len(wanted)), np.flatnonzero(np.diff(wanted) != 1) + 1):
                if not len(run):
                    continue
                file.seek(self.start + int(wanted[run[0]]) * size)
                found = np.fromfile(file, np.uint8, len(run) * size)
                if len(found) < len(run) * size:
                    raise SynthGainError(f"{self.path}: truncated while it was read; generate it again")
                rows[order[run]] = found.reshape(len(run), *self.shape[1:])
        return rows


def write_npz(
    path: Path, arrays: Mapping[str, npt.NDArray[Any] | ArrayOnDisk], *, compressed: bool = True
) -> None:
    """Write arrays in their order, whole or not at all. Neither the time nor the system shows in the bytes.

    An array on disk is copied in pieces, so that it needs no memory.
    """
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with atomic_output(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # whichever system writes it
            member.compress_type = method
            with archive.open(member, "w", force_zip64=True) as file:
                if isinstance(array, ArrayOnDisk):
                    header = {"descr": "|u1", "fortran_order": False, "shape": array.shape}
                    np.lib.format.write_array_header_1_0(file, header)
                    with array.path.open("rb") as source:
                        source.seek(array.start)
                        shutil.copyfileobj(source, file, _BYTES_AT_ONCE)
                else:
                    np.lib.format.write_array(file, array, allow_pickle=False)


@contextmanager
def open_npz(
    path: Path, *, damaged: str, remedy: str = "", missing: str = "`dvc repro` makes it"
) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    """The arrays of a file by name, read when they are asked for; what goes wrong in the block is one line.

    Args:
        path: the file.
        damaged: what to call a file that cannot be read, or in which the block misses something.
        remedy: what to do then, after a semicolon.
        missing: what to do where there is no such file.

    Raises:
        SynthGainError: if the file is missing, or one of `DAMAGE` was raised.
    """
    if path.exists() and not path.is_file():  # a pipe would wait for ever
        raise SynthGainError(f"{path}: {damaged} (not a plain file){remedy}")
    try:
        # Opened here: np.load leaves the file open when the archive is damaged.
        with path.open("rb") as file:
            if (start := file.read(2)) != b"PK":  # NumPy would speak of pickles, and how to load one
                raise SynthGainError(f"{path}: {damaged} (no .npz file: {_kind_of(start)}){remedy}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                yield arrays
    except FileNotFoundError:
        raise SynthGainError(f"{path}: no such file; {missing}") from None
    except DAMAGE as error:
        raise SynthGainError(f"{path}: {damaged} ({error}){remedy}") from None


def _kind_of(start: bytes) -> str:
    """What a file is by its first two bytes, in words."""
    kinds = {
        b"": "it is empty",
        b"\x1f\x8b": "it is packed with gzip",
        b"\x93N": "it is a single array, .npy",
    }
    return kinds.get(start, f"it begins with {start!r}")


def find_on_disk(path: Path, name: str) -> ArrayOnDisk | None:
    """An array that lies in an .npz file as it is, its checksum compared; None if it is compressed.

    Raises:
        DAMAGE: if the file cannot be read, or the array is not uint8 in C order.
    """
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            return None
        with archive.open(member) as content:
            if (version := np.lib.format.read_magic(content)) != (1, 0):
                raise ValueError(f"{name}.npy has format version {version}")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(content)
            header_size = content.tell()
            while content.read(_BYTES_AT_ONCE):  # to the end, where zipfile compares the checksum
                pass
    if dtype != np.uint8 or fortran:
        raise ValueError(f"{name} are {dtype}, not uint8 in C order")
    with path.open("rb") as file:
        file.seek(member.header_offset)
        name_size, extra_size = struct.unpack("<26xHH", file.read(30))
    return ArrayOnDisk(path, shape, member.header_offset + 30 + name_size + extra_size + header_size)


def read_array(archive: zipfile.ZipFile, name: str, *, most_bytes: int) -> npt.NDArray[Any]:
    """An array of an open archive, refused before it is unpacked if it would take more than `most_bytes`.

    Raises:
        DAMAGE: if it is missing, damaged, larger, or no plain array.
    """
    with _array_of(archive, name, most_bytes) as (content, shape, dtype):
        array = np.frombuffer(content.read(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
        if content.read(1):
            raise ValueError(f"{name}.npy goes on after its array")
    return array


def read_rows(
    archive: zipfile.ZipFile, name: str, *, shape: tuple[int, ...], at_once: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """A uint8 array of this shape in an open archive, so many rows at once: it is never in memory as a whole.

    Raises:
        DAMAGE: if it is missing, damaged, or of another shape or dtype.
    """
    with _array_of(archive, name, math.prod(shape) + _MOST_OF_A_HEADER) as (content, found, dtype):
        if found != shape or dtype != np.uint8:
            raise ValueError(f"{name} are {found} {dtype}, {shape} uint8 is needed")
        size = math.prod(shape[1:])
        for start in range(0, shape[0], at_once):
            rows = min(at_once, shape[0] - start)
            yield np.frombuffer(content.read(rows * size), np.uint8).reshape(rows, *shape[1:])
        if content.read(1):
            raise ValueError(f"{name}.npy goes on after its array")


def array_shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """The shape of an array in an open archive, of which only the header is read.

    Raises:
        DAMAGE: if it is missing, damaged, or no plain array.
    """
    with _array_of(archive, name, sys.maxsize) as (_, shape, _):
        return shape


@contextmanager
def _array_of(
    archive: zipfile.ZipFile, name: str, most_bytes: int
) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
    """A member after its header, with shape and dtype: the size that the header asks for is the one that is there."""
    member = archive.getinfo(f"{name}.npy")
    if member.file_size > most_bytes:
        raise ValueError(f"{name}.npy has {member.file_size} bytes; up to {most_bytes} are allowed")
    with archive.open(member) as content:
        if (version := np.lib.format.read_magic(content)) != (1, 0):
            raise ValueError(f"{name}.npy has format version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(content)
        if dtype.hasobject or (fortran and len(shape) > 1):
            raise ValueError(f"{name}.npy is {dtype} in the order of Fortran or with objects")
        size = math.prod(shape) * dtype.itemsize
        if size != member.file_size - content.tell():
            raise ValueError(f"{name}.npy is {shape} {dtype}, but has {member.file_size} bytes")
        yield content, shape, dtype
