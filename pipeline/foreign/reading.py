"""Images that somebody else's program wrote: any of four formats, read only if they are what was asked for.

A folder for each class with PNG files, `.npz` with `images` and `labels`, Parquet with `image` and `label`, or IDX
files with MNIST's names. docs/own-generator.md states the rules.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.class_folders import class_folders
from pipeline.errors import SynthGainError
from pipeline.foreign.program import too_large
from pipeline.npz import DAMAGE, read_array
from pipeline.sources.idx import read_idx

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
FORMATS = (
    "a folder for each class with PNG files, .npz files with images and labels, .parquet files with image and"
    " label, or IDX files with MNIST's names"
)
_OF_AN_EXPORT = "samples.parquet"  # the table beside the images of an export of this project
_MODES = {1: ("L", "8-bit grey"), 3: ("RGB", "8-bit RGB")}
_FILE_TYPES = ("PNG", "BMP", "TIFF", "WEBP", "JPEG")
_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
# A folder may have so many bytes: a float64 takes eight for a pixel, a small PNG some hundred around its pixels.
_LEAST_BYTES, _BYTES_OF_A_VALUE = 64_000_000, 16


class WrongImages(Exception):
    """What is wrong with the images, in a line."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for.

    Attributes:
        class_names: in label order.
        per_class: images of each class.
        shape: (C, H, W) of each image, C = 1 or 3.
    """

    class_names: tuple[str, ...]
    per_class: int
    shape: tuple[int, int, int]

    @property
    def most_bytes(self) -> int:
        """More than these images need in any format: beyond it, no file is opened."""
        values = len(self.class_names) * self.per_class * int(np.prod(self.shape))
        return max(_LEAST_BYTES, _BYTES_OF_A_VALUE * values)


def read_images(folder: Path, wanted: Wanted) -> Pixels:
    """(classes · per_class, C, H, W) uint8, class after class: the first `per_class` of each, in their order.

    Raises:
        WrongImages: if there are none or too few, if they are of another size, range or class, or damaged.
    """
    if problem := too_large(folder, wanted.most_bytes):
        raise WrongImages(problem)
    try:
        images, labels = _read(folder, wanted)
    except (*DAMAGE, SynthGainError) as error:
        text = " ".join(str(error).split()).replace(f"{folder}{os.sep}", "")
        raise WrongImages(f"cannot be read: {text[:300]}") from None
    counts = np.bincount(labels, minlength=len(wanted.class_names))
    short = np.flatnonzero(counts < wanted.per_class)
    if len(short):
        names = ", ".join(f"{wanted.class_names[label]} has {counts[label]}" for label in short[:5])
        more = f" and {len(short) - 5} more classes" if len(short) > 5 else ""
        raise WrongImages(f"too few images: {wanted.per_class} of each class are needed, {names}{more}")
    chosen = [np.flatnonzero(labels == label)[: wanted.per_class] for label in range(len(counts))]
    for name, positions in zip(wanted.class_names, chosen, strict=True):
        if len(positions) > 1 and (images[positions] == images[positions[0]]).all():
            raise WrongImages(f"all {len(positions)} images of class {name} are one and the same picture")
    return images[np.concatenate(chosen)]


def _read(folder: Path, wanted: Wanted) -> tuple[Pixels, Labels]:
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = {path.name: path for path in found if path.is_file()}
    kinds: dict[str, list[Path]] = {
        ".npz": [path for path in files.values() if path.suffix == ".npz"],
        ".parquet": [
            path for path in files.values() if path.suffix == ".parquet" and path.name != _OF_AN_EXPORT
        ],
        "IDX": [path for name in IDX_NAMES for path in _idx_file(files, name)],
        "folders of classes": [path for path in found if path.is_dir()],
    }
    present = [kind for kind, paths in kinds.items() if paths]
    if not present:
        raise WrongImages(f"no images; {FORMATS} are read")
    if len(present) > 1:
        raise WrongImages(f"images as {' and as '.join(present)}; one of these is needed")
    paths = kinds[present[0]]
    match present[0]:
        case ".npz":
            parts = [_read_npz(path, wanted) for path in paths]
        case ".parquet":
            parts = [_read_parquet(path, wanted) for path in paths]
        case "IDX":
            if len(paths) != len(IDX_NAMES):
                raise WrongImages(f"IDX files {' and '.join(IDX_NAMES)} are needed, once each")
            parts = [
                (
                    _as_pixels(read_idx(paths[0], dimensions=3), paths[0].name, wanted),
                    _as_labels(read_idx(paths[1], dimensions=1), paths[1].name, wanted),
                )
            ]
        case _:
            parts = [_read_tree(paths, wanted)]
    for images, labels in parts:
        if len(images) != len(labels):
            raise WrongImages(f"{len(images)} images, but {len(labels)} labels")
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _idx_file(files: dict[str, Path], name: str) -> list[Path]:
    return [files[known] for known in (name, f"{name}.gz") if known in files]


def _read_npz(path: Path, wanted: Wanted) -> tuple[Pixels, Labels]:
    with zipfile.ZipFile(path) as archive:
        missing = [name for name in ("images", "labels") if f"{name}.npy" not in archive.namelist()]
        if missing:
            raise WrongImages(f"{path.name} has no array {missing[0]}; images and labels are needed")
        images = read_array(archive, "images", most_bytes=wanted.most_bytes)
        labels = read_array(archive, "labels", most_bytes=wanted.most_bytes)
    return _as_pixels(images, path.name, wanted), _as_labels(labels, path.name, wanted)


def _read_parquet(path: Path, wanted: Wanted) -> tuple[Pixels, Labels]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if missing := [name for name in ("image", "label") if name not in names]:
                raise WrongImages(f"{path.name} has no column {missing[0]}; image and label are needed")
            size = sum(
                file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups)
            )
            if size > wanted.most_bytes:
                raise WrongImages(f"{path.name} unpacks to {size / 1e6:,.0f} MB")
            table = file.read(columns=["image", "label"])
    except pa.ArrowException as error:
        raise WrongImages(f"{path.name} cannot be read: {' '.join(str(error).split())[:200]}") from None
    images = []
    for row, cell in enumerate(table["image"].to_pylist()):
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise WrongImages(f"{path.name}: row {row} has no bytes of an image")
        images.append(_decoded(BytesIO(content), f"{path.name}: row {row}", wanted))
    pixels = np.stack(images) if images else np.empty((0, *wanted.shape), np.uint8)
    return pixels, _as_labels(np.array(table["label"].to_pylist()), path.name, wanted)


def _read_tree(folders: Sequence[Path], wanted: Wanted) -> tuple[Pixels, Labels]:
    known = {name: label for label, name in enumerate(class_folders(wanted.class_names))}
    images, labels = [], []
    for folder in folders:
        if folder.name not in known:
            names = ", ".join(list(known)[:20])
            raise WrongImages(f"folder {folder.name} is of no class; the folders of the classes are {names}")
        for path in _files_below(folder):
            name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
            if path.suffix.lower() not in _SUFFIXES or not path.is_file():
                raise WrongImages(f"{name} is no image file ({', '.join(_SUFFIXES)})")
            images.append(_decoded(path, name, wanted))
            labels.append(known[folder.name])
    pixels = np.stack(images) if images else np.empty((0, *wanted.shape), np.uint8)
    return pixels, np.array(labels, dtype=np.int64)


def _files_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and not path.name.startswith("."):
            yield path


def _decoded(source: Path | BytesIO, name: str, wanted: Wanted) -> Pixels:
    """(C, H, W) uint8 of an image file of exactly this size and kind."""
    channels, height, width = wanted.shape
    mode, words = _MODES[channels]
    try:
        with Image.open(source, formats=_FILE_TYPES) as image:
            if image.size != (width, height) or image.mode != mode:
                raise WrongImages(
                    f"{name} has {image.size[0]}×{image.size[1]} pixels, mode {image.mode};"
                    f" {width}×{height}, {mode} ({words}) is needed"
                )
            pixels = np.asarray(image)
    except WrongImages:
        raise
    except Exception as error:  # Pillow's decoders raise what they like on damaged files
        raise WrongImages(f"{name} is damaged, or no image ({' '.join(str(error).split())[:100]})") from None
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def _as_pixels(images: npt.NDArray[Any], name: str, wanted: Wanted) -> Pixels:
    """(N, C, H, W) uint8 from (N, H, W), (N, C, H, W) or (N, H, W, C), uint8 or floats in 0..1."""
    channels, height, width = wanted.shape
    shape = images.shape[1:]
    if shape == (height, width) and channels == 1:
        images = images[:, np.newaxis]
    elif shape == (height, width, channels):
        images = images.transpose(0, 3, 1, 2)
    elif shape != wanted.shape:
        raise WrongImages(
            f"{name} has images {images.shape}; (N, {channels}, {height}, {width}) or (N, {height}, {width},"
            f" {channels}) are needed"
        )
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind != "f":
        raise WrongImages(
            f"{name} has images of {images.dtype}; uint8 in 0..255, or floats in 0..1, are needed"
        )
    flat = images.reshape(len(images), -1)
    if len(bad := np.flatnonzero(~np.isfinite(flat).all(axis=1))):
        raise WrongImages(f"{name} has values that are no numbers (NaN or infinite) in {len(bad)} images")
    if flat.size and not (flat.min() >= 0 and flat.max() <= 1):
        raise WrongImages(
            f"{name} has values from {flat.min():g} to {flat.max():g}; floats are needed in 0..1"
        )
    return np.ascontiguousarray(np.rint(images * 255).astype(np.uint8))


def _as_labels(labels: npt.NDArray[Any], name: str, wanted: Wanted) -> Labels:
    """(N,) int64 from numbers or class names."""
    if labels.ndim != 1:
        raise WrongImages(f"{name} has labels of shape {labels.shape}; (N,) is needed")
    if labels.dtype.kind == "U":
        known = {class_name: label for label, class_name in enumerate(wanted.class_names)}
        if unknown := sorted(set(labels.tolist()) - known.keys()):
            raise WrongImages(f"{name} has the label {unknown[0]!r}, which is none of the classes")
        return np.array([known[label] for label in labels.tolist()], dtype=np.int64)
    if labels.dtype.kind not in "iu":
        raise WrongImages(f"{name} has labels of {labels.dtype}; whole numbers, or class names, are needed")
    highest = len(wanted.class_names) - 1
    if len(labels) and not (0 <= labels.min() and labels.max() <= highest):
        raise WrongImages(f"{name} has labels {labels.min()}..{labels.max()}; 0..{highest} are the classes")
    return labels.astype(np.int64)
