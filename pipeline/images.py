"""Labelled images: the one thing besides checkpoints and small tables that passes between stages."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.npz import open_npz, write_npz

# Sides of images: a grid of 4 to 7 pixels doubled, as networks grow and shrink them.
SIDES = sorted(
    grid << doublings for grid in range(4, 8) for doublings in range(6) if 8 <= grid << doublings <= 128
)
_LABELS_OF_A_BYTE = 256
_IDX = ("idx", "idx_gz")
Indices = npt.NDArray[np.int64]


def problem_of_class_names(class_names: Sequence[str]) -> str | None:
    """Why these cannot name classes, which stand in files of text, a line each; None if they can."""
    strange = next((name for name in class_names if not (name and name.isprintable())), None)
    if strange is not None:
        return f"class_names: found {strange!a}; a name of printable characters is needed"
    name, count = max(Counter(class_names).items(), key=lambda item: item[1], default=("", 1))
    return f"class_names: {name} stands there {count} times; each class needs its own" if count > 1 else None


@dataclass(frozen=True)
class LabeledImages:
    """Images with a class each.

    Attributes:
        images: (N, C, H, W) uint8, C = 1 (grey; 0 = background) or 3 (red, green, blue).
        labels: (N,) int64 in 0..len(class_names)−1.
        class_names: one name per class, in label order.
        provenance: where they come from (JSON values): seeds, hashes, counts.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] not in (1, 3) or self.images.dtype != np.uint8:
            raise SynthGainError(
                f"images: found shape {self.images.shape}, {self.images.dtype};"
                " (N, 1, H, W) or (N, 3, H, W) uint8 is needed"
            )
        if self.labels.shape != (len(self.images),) or self.labels.dtype != np.int64:
            raise SynthGainError(
                f"labels: found shape {self.labels.shape}, {self.labels.dtype};"
                f" ({len(self.images)},) int64 is needed"
            )
        if len(self.labels) and not (0 <= self.labels.min() and self.labels.max() < self.num_classes):
            raise SynthGainError(
                f"labels: found {self.labels.min()}..{self.labels.max()};"
                f" {self.num_classes} classes allow 0..{self.num_classes - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """How many classes there are, whether or not each has an image."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return int(self.images.shape[1])

    def counts(self) -> npt.NDArray[np.int64]:
        """(num_classes,) int64: the images of each class."""
        return np.bincount(self.labels, minlength=self.num_classes).astype(np.int64)

    def subset(self, indices: Indices, provenance: Mapping[str, Any] | None = None) -> LabeledImages:
        """The images at these positions, in their order."""
        return LabeledImages(
            self.images[indices],
            self.labels[indices],
            self.class_names,
            self.provenance if provenance is None else provenance,
        )

    def save(self, path: Path) -> None:
        """Write one compressed `.npz`; the same content gives the same bytes."""
        write_npz(
            path,
            {
                "images": self.images,
                "labels": self.labels,
                "class_names": np.array(self.class_names, dtype=np.str_),
                "provenance": np.array(json.dumps(dict(self.provenance), sort_keys=True), dtype=np.str_),
            },
        )

    @classmethod
    def load(cls, path: Path) -> LabeledImages:
        """Read what `save` wrote.

        Raises:
            SynthGainError: if the file is missing, damaged or of another kind.
        """
        with open_npz(path, damaged="not a readable labelled image file", remedy="; make it again") as arrays:
            try:
                return cls(
                    arrays["images"],
                    arrays["labels"],
                    tuple(str(name) for name in arrays["class_names"]),
                    json.loads(str(arrays["provenance"])),
                )
            except SynthGainError as error:  # what is in it does not fit together
                raise SynthGainError(f"{path}: {error}; make it again") from None


def concatenate(parts: Sequence[LabeledImages], provenance: Mapping[str, Any]) -> LabeledImages:
    """All images of the parts, one part after another.

    Raises:
        SynthGainError: if their classes, channels or sides differ.
    """
    for part in parts[1:]:
        if part.images.shape[1:] != parts[0].images.shape[1:]:
            raise SynthGainError(
                f"channels or sides differ: {parts[0].images.shape[1:]} and {part.images.shape[1:]}"
            )
        if part.class_names != parts[0].class_names:
            raise SynthGainError(f"classes differ: {parts[0].class_names} and {part.class_names}")
    return LabeledImages(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        parts[0].class_names,
        provenance,
    )


def stratified_indices(
    labels: npt.NDArray[np.int64], size: int, num_classes: int, rng: np.random.Generator, *, leave: int = 0
) -> Indices:
    """`size` positions, drawn without replacement, each class in proportion to its share; sorted.

    Shares are rounded by largest remainder, and every class gets at least one; `leave` images of each class are not
    drawn.

    Raises:
        SynthGainError: if there are fewer images than asked for, or fewer places than classes.
    """
    available = np.bincount(labels, minlength=num_classes)
    if size > len(labels):
        raise SynthGainError(f"{size} images asked for, but there are only {len(labels)}")
    if size < num_classes:
        raise SynthGainError(f"{size} images asked for; {num_classes} classes need at least one each")
    if available.min() == 0:
        raise SynthGainError(
            f"class {int(available.argmin())} has no image among {len(labels)}; at least one of each is needed:"
            " make the splits again (`dvc repro prepare`)"
        )
    most = available - leave
    if most.min() < 1 or size > most.sum():
        raise SynthGainError(
            f"{size} images asked for, and {leave} of each class are to be left; class {int(available.argmin())} has"
            f" {available.min()}, all have {len(labels)}"
        )
    quota = available * (size / len(labels))
    counts = np.clip(np.floor(quota).astype(np.int64), 1, most)
    while counts.sum() > size:  # only where the minimum of one raised small classes
        counts[np.argmax(np.where(counts > 1, counts - quota, -np.inf))] -= 1
    while (short := size - counts.sum()) > 0:  # once, but where classes have no more to give
        order = np.argsort(-(quota - counts), kind="stable")
        counts[order[counts[order] < most[order]][:short]] += 1
    chosen = [
        rng.choice(np.flatnonzero(labels == label), size=count, replace=False)
        for label, count in enumerate(counts)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def draw_indices(
    labels: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], rng: np.random.Generator
) -> Indices:
    """`counts` positions of each class, class after class in random order; round again where a class has fewer.

    Raises:
        SynthGainError: if a class has no image and some are asked for.
    """
    parts = []
    for label, count in enumerate(counts):
        members = np.flatnonzero(labels == label)
        if count and not len(members):
            raise SynthGainError(f"class {label} has no image to draw from")
        parts.append(np.resize(rng.permutation(members), count))
    return np.concatenate(parts).astype(np.int64)


def index_sha256(indices: Indices) -> str:
    """The hash of a set of positions: of their little-endian int64 bytes in ascending order."""
    return hashlib.sha256(np.sort(indices).astype("<i8").tobytes()).hexdigest()


def pixel_sha256(images: npt.NDArray[np.uint8]) -> list[str]:
    """One hash per image, of its uint8 pixels in row order."""
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images]


def pixel_keys(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The first 64 bits of each distinct `pixel_sha256`, ascending: to find out whether sets share an image.

    Two different images share a key with a probability of 5·10⁻²⁰: in 60 000 against 10 000, 3·10⁻¹¹.
    """
    return np.unique(keys_in_order(images))


def keys_in_order(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The first 64 bits of each image's `pixel_sha256`, in the order of the images."""
    digests = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()[:8] for image in images]
    return np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)


def images_sha256(images: LabeledImages) -> str:
    """The hash of pixels and labels, in their order."""
    digest = hashlib.sha256(np.ascontiguousarray(images.images).tobytes())
    digest.update(images.labels.astype("<i8").tobytes())
    return digest.hexdigest()


def formats_for(formats: Sequence[str], *, num_classes: int, channels: int) -> tuple[list[str], str | None]:
    """Those of some export formats that can hold such images, and the line that names the others with the reason.

    IDX, which MNIST's readers expect, is grey, and its labels are bytes.

    Raises:
        SynthGainError: if none can.
    """
    reasons = ["grey images only"] if channels != 1 else []
    if num_classes > _LABELS_OF_A_BYTE:
        reasons.append(f"at most {_LABELS_OF_A_BYTE} classes, and there are {num_classes}")
    without = [name for name in formats if name in _IDX and reasons]
    if not without:
        return list(formats), None
    others = [name for name in formats if name not in without]
    names = " and ".join(without)
    if not others:
        raise SynthGainError(f"{names}: IDX holds {', and '.join(reasons)}; take parquet, png or npz instead")
    return others, f"{names}: left out; IDX holds {', and '.join(reasons)}"
