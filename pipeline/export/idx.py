"""IDX: MNIST's own file format under MNIST's own file names, for readers that expect MNIST."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import SynthGainError
from pipeline.export.ids import sample_ids
from pipeline.images import LabeledImages

# The third byte says uint8 (8), the fourth how many dimensions follow as big-endian int32.
_IMAGES_MAGIC = 0x0803
_LABELS_MAGIC = 0x0801
_IMAGES_AT_A_TIME = 4096


def write_idx(images: LabeledImages, folder: Path) -> None:
    """Write `train-images-idx3-ubyte.gz` (N, H, W) and `train-labels-idx1-ubyte.gz` (N,), both uint8.

    Beside them `classes.txt` (line i: the name of label i) and `ids.txt` (line i: the id of image i).

    Raises:
        SynthGainError: if there are more classes than a label byte can say.
    """
    if images.num_classes > 256:
        raise SynthGainError(
            f"idx: found {images.num_classes} classes; its label byte allows 256; export png instead"
        )
    n, _, height, width = images.images.shape
    with _gzip(folder / "train-images-idx3-ubyte.gz") as file:
        file.write(struct.pack(">4i", _IMAGES_MAGIC, n, height, width))
        for start in range(0, n, _IMAGES_AT_A_TIME):
            file.write(images.images[start : start + _IMAGES_AT_A_TIME].tobytes())
    with _gzip(folder / "train-labels-idx1-ubyte.gz") as file:
        file.write(struct.pack(">2i", _LABELS_MAGIC, n))
        file.write(images.labels.astype(np.uint8).tobytes())
    _write_lines(folder / "classes.txt", images.class_names)
    _write_lines(folder / "ids.txt", sample_ids(images.labels))


def _gzip(path: Path) -> gzip.GzipFile:
    """A gzip file whose bytes depend on its name and content only: no time, one level."""
    return gzip.GzipFile(path, "wb", compresslevel=9, mtime=0)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
