"""A file of labelled images, read a few rows at a time: a million images fit through a small memory."""

from __future__ import annotations

import json
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.images import DAMAGED_ARCHIVE

Rows = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint8]]

# What a file may know of each image besides its label.
MEASUREMENTS = ("label_score", "nearest_real_distance")
_BYTES_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An open file of labelled images.

    Attributes:
        path: where it is.
        sha256: of its bytes.
        labels: (N,) int64 in 0..len(class_names)−1.
        class_names: in label order.
        image_size: (H, W).
        provenance: JSON values; `kind` is synthetic or real.
        measurements: (N,) float32 by name, of `MEASUREMENTS`, as far as the file has them.
        rows: positions (n,) → pixels (n, H, W) uint8.
    """

    path: Path
    sha256: str
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    provenance: Mapping[str, Any]
    measurements: Mapping[str, npt.NDArray[np.float32]]
    rows: Rows

    def __len__(self) -> int:
        return len(self.labels)


def open_images(path: Path) -> ImageFile:
    """Open what `LabeledImages.save` or `synthgain generate` wrote.

    Uncompressed pixels (`synthgain generate`) stay on disk; compressed ones are read as a whole.

    Raises:
        SynthGainError: if the file is missing, truncated, damaged, empty or of another kind.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pixels = archive.getinfo("images.npy")
            if pixels.compress_type == zipfile.ZIP_STORED:
                # Read to the end, which compares the checksum. What NumPy reads as a whole is compared then.
                with archive.open(pixels) as member:
                    while member.read(_BYTES_AT_ONCE):
                        pass
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            labels = arrays["labels"]
            class_names = tuple(str(name) for name in arrays["class_names"])
            provenance = json.loads(str(arrays["provenance"]))
            measurements = {
                name: arrays[name].astype(np.float32) for name in MEASUREMENTS if name in arrays.files
            }
            if pixels.compress_type == zipfile.ZIP_STORED:
                shape, rows = _rows_on_disk(path, pixels.header_offset)
            else:
                shape, rows = _rows_in_memory(arrays["images"])
    except FileNotFoundError:
        raise SynthGainError(f"{path}: no such file; `synthgain generate` makes one") from None
    except DAMAGED_ARCHIVE as error:
        raise SynthGainError(
            f"{path}: not a readable file of labelled images ({error}); make it again with `synthgain generate`"
        ) from None
    _check(path, shape, labels, len(class_names), measurements)
    return ImageFile(
        path, file_sha256(path), labels, class_names, (shape[2], shape[3]), provenance, measurements, rows
    )


def _check(
    path: Path,
    shape: tuple[int, ...],
    labels: npt.NDArray[Any],
    classes: int,
    measurements: Mapping[str, npt.NDArray[np.float32]],
) -> None:
    if len(shape) != 4 or shape[1] != 1 or labels.shape != shape[:1] or labels.dtype != np.int64:
        raise SynthGainError(
            f"{path}: found images {shape} and labels {labels.shape} {labels.dtype}; (N, 1, H, W) uint8 and"
            " (N,) int64 are needed"
        )
    if not len(labels):
        raise SynthGainError(f"{path}: holds no image; generate it again")
    if labels.min() < 0 or labels.max() >= classes:
        raise SynthGainError(
            f"{path}: found labels {labels.min()}..{labels.max()}; its {classes} classes allow 0..{classes - 1}"
        )
    for name, values in measurements.items():
        if values.shape != labels.shape:
            raise SynthGainError(f"{path}: {name} has shape {values.shape}; {labels.shape} is needed")


def _rows_in_memory(images: npt.NDArray[np.uint8]) -> tuple[tuple[int, ...], Rows]:
    if images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype}, not uint8")
    return images.shape, lambda positions: images[positions, 0]


def _rows_on_disk(path: Path, header_offset: int) -> tuple[tuple[int, ...], Rows]:
    """Rows of a stored (not compressed) zip member in NumPy's format."""
    with path.open("rb") as file:
        file.seek(header_offset)
        name, extra = struct.unpack("<26xHH", file.read(30))
        file.seek(header_offset + 30 + name + extra)
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"images.npy has format version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if dtype != np.uint8 or fortran:
        raise ValueError(f"images are {dtype}, not uint8 in C order")
    size = math.prod(shape[1:])

    def rows(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        pixels = np.empty((len(positions), *shape[2:]), dtype=np.uint8)
        order = np.argsort(positions, kind="stable")
        wanted = positions[order]
        # One read per run of neighbours. No memory map: its pages would count as this process's memory.
        with path.open("rb") as file:
            for run in np.split(np.arange(len(wanted)), np.flatnonzero(np.diff(wanted) != 1) + 1):
                if not len(run):
                    continue
                file.seek(start + int(wanted[run[0]]) * size)
                found = np.fromfile(file, np.uint8, len(run) * size)
                if len(found) < len(run) * size:
                    raise SynthGainError(f"{path}: truncated while it was read; generate it again")
                pixels[order[run]] = found.reshape(len(run), *shape[2:])
        return pixels

    return shape, rows


def open_study_images(path: Path, *, budget: int | str, replicate: int) -> ImageFile:
    """Open the synthetic images of one budget and replicate.

    Raises:
        SynthGainError: as `open_images`, and if the file holds real images, or those of another budget or
            replicate.
    """
    images = open_images(path)
    wanted = {"kind": "synthetic", "budget": budget, "replicate": replicate}
    for key, value in wanted.items():
        if images.provenance.get(key) != value:
            raise SynthGainError(
                f"{path}: its {key} is {images.provenance.get(key)}, only {value} may be exported from here;"
                " run the generate stage again"
            )
    return images
