"""What is in an export, or in a file of generated images: counts, origin, and a sheet to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.errors import SynthGainError
from pipeline.export.manifest import MANIFEST
from pipeline.export.readers import TOO_MUCH_MEMORY, Unreadable, picture_shape, read_samples
from pipeline.export.source import as_pictures, open_images
from pipeline.export.verify import find_exports, read_manifest
from pipeline.runtime.memory import memory_ceiling
from pipeline.runtime.outputs import atomic_output

_GAP = 2
_BLANK = 32
_MOST_BYTES = 500_000_000  # of pictures


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file or an export holds.

    Attributes:
        kind: `export, parquet` or `file of synthetic images`.
        class_names: in label order.
        counts: images per class, synthetic and real.
        image_size: (H, W).
        facts: origin and hashes, by name.
        pictures: per class some images (n, H, W) uint8, in colour (n, H, W, 3).
    """

    kind: str
    class_names: Sequence[str]
    counts: Sequence[tuple[int, int]]
    image_size: tuple[int, int]
    facts: Mapping[str, Any]
    pictures: Sequence[npt.NDArray[np.uint8]]


def inspect(path: Path, *, per_class: int) -> Contents:
    """Look into an export (of several formats, the first) or a file of labelled images.

    Args:
        path: a folder or a file.
        per_class: how many pictures of each class to take, the first ones.

    Raises:
        SynthGainError: if there is nothing of ours, or it is damaged, or unpacks to more memory than it may take.
    """
    try:
        with memory_ceiling():
            return _inspect_export(path, per_class) if path.is_dir() else _inspect_file(path, per_class)
    except MemoryError:
        raise SynthGainError(f"{path}: {TOO_MUCH_MEMORY}") from None


def _inspect_file(path: Path, per_class: int) -> Contents:
    file = open_images(path, in_memory=False)
    counts = np.bincount(file.labels, minlength=len(file.class_names)).tolist()
    is_real = file.provenance.get("kind") != "synthetic"
    shown = [np.flatnonzero(file.labels == label)[:per_class] for label in range(len(file.class_names))]
    pixels = as_pictures(file.rows(np.concatenate(shown)))  # at once: a compressed file is unpacked once
    pictures = np.split(pixels, np.cumsum([len(positions) for positions in shown])[:-1])
    return Contents(
        f"file of {'real' if is_real else 'synthetic'} images",
        file.class_names,
        [(0, count) if is_real else (count, 0) for count in counts],
        file.image_size,
        {**file.provenance, "sha256": file.sha256},
        pictures,
    )


def _inspect_export(path: Path, per_class: int) -> Contents:
    folders = find_exports(path)
    manifest = read_manifest(folders[0])
    classes = len(manifest["class_names"])
    wanted = [
        min(per_class, synthetic + real)
        for synthetic, real in zip(manifest["counts"], manifest["real_counts"], strict=True)
    ]
    height, width = manifest["image_size"]
    shape = picture_shape(manifest)
    if (size := sum(wanted) * math.prod(shape)) > _MOST_BYTES:
        raise SynthGainError(
            f"--per-class: found {per_class}; {sum(wanted)} pictures of {width}×{height} pixels have {size:,} bytes,"
            f" {_MOST_BYTES:,} are allowed: lower it"
        )
    found: list[list[npt.NDArray[np.uint8]]] = [[] for _ in range(classes)]
    try:
        for batch in read_samples(folders[0], manifest):
            for label, image in zip(batch.labels.tolist(), batch.images, strict=True):
                if 0 <= label < classes and len(found[label]) < wanted[label]:
                    found[label].append(image)
            if all(len(images) >= count for images, count in zip(found, wanted, strict=True)):
                break  # the order mixes the classes: the first samples show them all
    except Unreadable as error:
        raise SynthGainError(f"{folders[0]}: {error}; `synthgain verify` says more") from None
    formats = ", ".join(read_manifest(folder)["format"] for folder in folders)
    facts = {
        "source": manifest["source"]["name"],
        "licence": manifest["source"]["licence"],
        **manifest["provenance"],
        "pixel_sha256": manifest["pixel_sha256"],
        "manifest": str(folders[0] / MANIFEST),
    }
    if manifest["label_filter"]:
        facts["minimum_label_score"] = manifest["label_filter"]["minimum_label_score"]
    if manifest["study"]:
        facts["study"] = manifest["study"]["note"]
    pictures = [np.stack(images) if images else np.empty((0, *shape), np.uint8) for images in found]
    counts = list(zip(manifest["counts"], manifest["real_counts"], strict=True))
    return Contents(f"export, {formats}", manifest["class_names"], counts, (height, width), facts, pictures)


def save_contact_sheet(contents: Contents, path: Path) -> None:
    """A PNG with a row per class: its first images, side by side."""
    height, width = contents.image_size
    columns = max(1, *(len(pictures) for pictures in contents.pictures), 1)
    rows = len(contents.class_names)
    colour = contents.pictures[0].shape[3:]
    size = (rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, *colour)
    sheet = np.full(size, _BLANK, dtype=np.uint8)
    for row, pictures in enumerate(contents.pictures):
        for column, picture in enumerate(pictures):
            top, left = _GAP + row * (height + _GAP), _GAP + column * (width + _GAP)
            sheet[top : top + height, left : left + width] = picture
    with atomic_output(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")
