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


def read_idx(path: Path, *, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, gzipped or not.

    Header: two zero bytes, the type (8 = unsigned byte), the number of dimensions, and one big-endian uint32
    per dimension.

    Raises:
        SynthGainError: if the file is truncated, damaged, or of another type or number of dimensions.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise SynthGainError(f"{path}: cannot be read, damaged or truncated ({error})") from None
    header = 4 + 4 * dimensions
    if len(content) < header or content[:2] != b"\0\0":
        raise SynthGainError(f"{path}: not an IDX file (it begins with {content[:4].hex() or 'nothing'})")
    if content[2] != _UNSIGNED_BYTE or content[3] != dimensions:
        raise SynthGainError(
            f"{path}: IDX of type {content[2]} with {content[3]} dimensions;"
            f" unsigned bytes (type 8) with {dimensions} are needed"
        )
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", count=dimensions, offset=4))
    if len(content) - header != math.prod(shape):
        raise SynthGainError(
            f"{path}: truncated or too long: {len(content) - header} bytes of data,"
            f" {' × '.join(map(str, shape))} need {math.prod(shape)}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
