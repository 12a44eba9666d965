"""IDX: MNIST's own file format under MNIST's own file names, for readers that expect MNIST."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import SynthGainError

if TYPE_CHECKING:
    from pipeline.export.table import Shard

# The third byte says uint8 (8), the fourth how many dimensions follow as big-endian int32.
IMAGES_MAGIC = 0x0803
LABELS_MAGIC = 0x0801
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
# Level 9 takes fifteen times as long for 2 % of the size.
_LEVEL = 6


def check_classes(num_classes: int) -> None:
    """Refuse more classes than a label byte can say.

    Raises:
        SynthGainError: above 256.
    """
    if num_classes > 256:
        raise SynthGainError(
            f"idx: found {num_classes} classes; its label byte allows 256; export parquet instead"
        )


def write_part(shard: Shard, parts: Path) -> None:
    """Write the shard's part of both files."""
    _write_part(shard, parts, lambda content: content)


def write_gzip_part(shard: Shard, parts: Path) -> None:
    """Write the shard's part of both files as a gzip member of its own: members in a row are one file."""
    _write_part(shard, parts, _gzip)


def assemble(parts: Path, folder: Path, *, samples: int, shards: int, image_size: tuple[int, int]) -> None:
    """Join the parts to `train-images-idx3-ubyte` (N, H, W) and `train-labels-idx1-ubyte` (N,), both uint8."""
    _assemble(parts, folder, samples, shards, image_size, "", lambda content: content)


def assemble_gzip(
    parts: Path, folder: Path, *, samples: int, shards: int, image_size: tuple[int, int]
) -> None:
    """The same, compressed, with `.gz` after the names. Every gzip reader reads members in a row as one file."""
    _assemble(parts, folder, samples, shards, image_size, ".gz", _gzip)


def _write_part(shard: Shard, parts: Path, packed: Callable[[bytes], bytes]) -> None:
    (parts / f"{IMAGES}.{shard.number}").write_bytes(packed(shard.images.tobytes()))
    labels = np.array(shard.labels, dtype=np.uint8)
    (parts / f"{LABELS}.{shard.number}").write_bytes(packed(labels.tobytes()))


def _assemble(
    parts: Path,
    folder: Path,
    samples: int,
    shards: int,
    image_size: tuple[int, int],
    suffix: str,
    packed: Callable[[bytes], bytes],
) -> None:
    headers = {
        IMAGES: struct.pack(">4i", IMAGES_MAGIC, samples, *image_size),
        LABELS: struct.pack(">2i", LABELS_MAGIC, samples),
    }
    for name, header in headers.items():
        with (folder / f"{name}{suffix}").open("wb") as file:
            file.write(packed(header))
            for number in range(shards):
                file.write((parts / f"{name}.{number}").read_bytes())


def _gzip(content: bytes) -> bytes:
    """Bytes that depend on the content only: no time, no file name, one level."""
    return gzip.compress(content, _LEVEL, mtime=0)
