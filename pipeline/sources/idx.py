"""IDX files, the format of MNIST: big-endian header, then raw values."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError

_UNSIGNED_BYTE = 8
_MOST_OF_DEFLATE = 1032  # bytes of content in a byte of a gzip file


def read_idx(path: Path, *, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, gzipped or not.

    Header: two zero bytes, the type (8 = unsigned byte), the number of dimensions, and one big-endian uint32
    per dimension.

    Raises:
        SynthGainError: if the file is truncated, damaged, or of another type or number of dimensions.
    """
    header = 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(header)
            shape = _shape(path, start, dimensions)
            needed = math.prod(shape)
            # No more is unpacked than the header names, and no more named than the file can hold.
            within = needed <= path.stat().st_size * _MOST_OF_DEFLATE
            content = file.read(needed) if within else b""
            longer = within and bool(file.read(1))
    except (OSError, EOFError, zlib.error) as error:
        raise SynthGainError(f"{path}: cannot be read, damaged or truncated ({error})") from None
    if len(content) < needed or longer:
        found = f"more than {needed}" if longer else f"{len(content)}" if within else "fewer"
        raise SynthGainError(
            f"{path}: truncated or too long: {found} bytes of data, {' × '.join(map(str, shape))} need {needed}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def _shape(path: Path, start: bytes, dimensions: int) -> tuple[int, ...]:
    """The shape that a header of an IDX file names."""
    if len(start) < 4 + 4 * dimensions or start[:2] != b"\0\0":
        raise SynthGainError(f"{path}: not an IDX file (it begins with {start[:4].hex() or 'nothing'})")
    if start[2] != _UNSIGNED_BYTE or start[3] != dimensions:
        raise SynthGainError(
            f"{path}: IDX of type {start[2]} with {start[3]} dimensions;"
            f" unsigned bytes (type 8) with {dimensions} are needed"
        )
    return tuple(int(n) for n in np.frombuffer(start, ">u4", count=dimensions, offset=4))
