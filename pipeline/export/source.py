"""A file of labelled images, read a few rows at a time: a million images fit through a small memory."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.images import problem_of_class_names
from pipeline.npz import array_shape, find_on_disk, open_npz, read_rows

Rows = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint8]]

_MESSAGES = {
    "damaged": "not a readable file of labelled images",
    "remedy": "; make it again with `synthgain generate`",
    "missing": "`synthgain generate` makes one",
}
_BYTES_AT_ONCE = 64_000_000  # of pixels
# What a file may know of each image besides its label.
MEASUREMENTS = ("label_score", "nearest_real_distance")


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An open file of labelled images.

    Attributes:
        path: where it is; of images that are drawn, their generator.
        sha256: of its bytes; of images that are drawn, of all that they depend on.
        labels: (N,) int64 in 0..len(class_names)−1.
        class_names: in label order.
        image_size: (H, W).
        channels: 1 or 3.
        provenance: JSON values; `kind` is synthetic or real.
        measurements: (N,) float32 by name, of `MEASUREMENTS`, as far as the file has them.
        rows: positions (n,) → pixels (n, H, W) uint8, in colour (n, 3, H, W).
        is_drawn: whether `rows` computes them: then a worker does it, for the images that it needs.
    """

    path: Path
    sha256: str
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    provenance: Mapping[str, Any]
    measurements: Mapping[str, npt.NDArray[np.float32]]
    rows: Rows
    is_drawn: bool = False

    def __len__(self) -> int:
        return len(self.labels)


def open_images(path: Path, *, in_memory: bool = True) -> ImageFile:
    """Open what `LabeledImages.save` or `synthgain generate` wrote.

    Uncompressed pixels (`synthgain generate`) stay on disk. Compressed ones are read as a whole, or, if not
    `in_memory`, unpacked anew for each call of `rows`, some at a time.

    Raises:
        SynthGainError: if the file is missing, truncated, damaged, empty or of another kind.
    """
    with open_npz(path, **_MESSAGES) as arrays:
        labels = arrays["labels"]
        class_names = tuple(str(name) for name in arrays["class_names"])
        provenance = json.loads(str(arrays["provenance"]))
        measurements = {name: arrays[name].astype(np.float32) for name in MEASUREMENTS if name in arrays}
        shape, rows = _image_rows(path, arrays, in_memory)
    if problem := problem_of_class_names(class_names):
        raise SynthGainError(f"{path}: {problem}")
    _check(path, shape, labels, len(class_names), measurements)
    return ImageFile(
        path=path,
        sha256=file_sha256(path),
        labels=labels,
        class_names=class_names,
        image_size=(shape[2], shape[3]),
        channels=shape[1],
        provenance=provenance,
        measurements=measurements,
        rows=rows,
    )


def as_pictures(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Rows of an `ImageFile`, (n, H, W) or (n, 3, H, W), as pictures: (n, H, W) or (n, H, W, 3), as Pillow has them."""
    return pixels if pixels.ndim == 3 else np.ascontiguousarray(np.moveaxis(pixels, 1, -1))


def _check(
    path: Path,
    shape: tuple[int, ...],
    labels: npt.NDArray[Any],
    classes: int,
    measurements: Mapping[str, npt.NDArray[np.float32]],
) -> None:
    if len(shape) != 4 or shape[1] not in (1, 3) or labels.shape != shape[:1] or labels.dtype != np.int64:
        raise SynthGainError(
            f"{path}: found images {shape} and labels {labels.shape} {labels.dtype}; (N, 1, H, W) or"
            " (N, 3, H, W) uint8 and (N,) int64 are needed"
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


def _image_rows(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], in_memory: bool
) -> tuple[tuple[int, ...], Rows]:
    """The shape of the images, and what reads some of them: from the disk where they are not compressed."""
    if on_disk := find_on_disk(path, "images"):
        return on_disk.shape, lambda positions: _without_grey_axis(on_disk.rows(positions))
    if not in_memory:
        with zipfile.ZipFile(path) as archive:
            shape = array_shape(archive, "images")
        return shape, lambda positions: _unpacked_rows(path, shape, positions)
    images = arrays["images"]
    if images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype}, not uint8")
    return images.shape, lambda positions: _without_grey_axis(images[positions])


def _without_grey_axis(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return images[:, 0] if images.shape[1] == 1 else images


def _unpacked_rows(
    path: Path, shape: tuple[int, ...], positions: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """These of (N, C, H, W) compressed images, of which only some are in memory at a time."""
    found = np.empty((len(positions), *shape[1:]), dtype=np.uint8)
    at_once = max(1, _BYTES_AT_ONCE // math.prod(shape[1:]))
    with open_npz(path, **_MESSAGES), zipfile.ZipFile(path) as archive:
        for start, part in zip(
            range(0, shape[0], at_once),
            read_rows(archive, "images", shape=shape, at_once=at_once),
            strict=True,
        ):
            here = (positions >= start) & (positions < start + len(part))
            found[here] = part[positions[here] - start]
    return _without_grey_axis(found)


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
