"""Train, validation and test, without one image in two of them, and the manifest that proves it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import SynthGainError
from pipeline.images import Indices, LabeledImages, index_sha256, pixel_sha256, stratified_indices

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Splits:
    """Three disjoint splits and what `splits.json` says about them.

    Attributes:
        train: the published train split without validation and without duplicates.
        validation: drawn from the published train split, stratified by class.
        test: the published test split, whole.
        manifest: JSON values.
    """

    train: LabeledImages
    validation: LabeledImages
    test: LabeledImages
    manifest: dict[str, Any]


def split(
    published_train: LabeledImages, published_test: LabeledImages, *, validation_images: int, seed: int
) -> Splits:
    """Draw validation out of the published train split; drop images that a stricter split holds as well.

    A pixel-identical image in two splits is a leak, whatever its label. Test keeps all its images; validation
    holds none of test's; train holds none of test's and none of validation's.

    Args:
        published_train: images from which train and validation are made.
        published_test: stays as it is.
        validation_images: the size of validation; stratified by class.
        seed: of that draw.

    Raises:
        SynthGainError: if sizes or classes differ, all images are identical, or a class is missing from a
            split or too small.
    """
    _refuse_unlike(published_train, published_test)
    train_hashes = np.array(pixel_sha256(published_train.images))
    test_hashes = np.array(pixel_sha256(published_test.images))
    if len(set(train_hashes)) == 1:
        raise SynthGainError(f"all {len(train_hashes)} images of the published train split are identical")

    in_test = np.isin(train_hashes, test_hashes)
    validation, rest = _draw_validation(published_train, np.flatnonzero(~in_test), validation_images, seed)
    in_validation = np.isin(train_hashes[rest], train_hashes[validation])
    train = rest[~in_validation]
    _need_every_class(
        published_train.subset(train),
        "train, after the draw of validation,",
        1,
        "lower data.validation_images or bring more images",
    )

    parts = {
        "train": (published_train, train, train_hashes[train]),
        "validation": (published_train, validation, train_hashes[validation]),
        "test": (published_test, np.arange(len(published_test)), test_hashes),
    }
    described = {name: _describe(name, *part) for name, part in parts.items()}
    made = {
        name: published.subset(indices, {**published.provenance, **described[name], "split": name})
        for name, (published, indices, _) in parts.items()
    }
    dropped = [
        *_twins(np.flatnonzero(in_test), train_hashes, "test", np.arange(len(test_hashes)), test_hashes),
        *_twins(rest[in_validation], train_hashes, "validation", validation, train_hashes[validation]),
    ]
    twins = _under_two_labels(train_hashes[train], published_train.labels[train])
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "source": published_train.provenance.get("source"),
        "class_names": list(published_train.class_names),
        "image_size": int(published_train.images.shape[-1]),
        **({"channels": published_train.channels} if published_train.channels == 3 else {}),
        "validation_seed": seed,
        "published": {"train": dict(published_train.provenance), "test": dict(published_test.provenance)},
        "splits": described,
        "dropped_from_train_and_validation": dropped,
        **({"train_images_under_two_labels": twins} if twins else {}),
    }
    return Splits(made["train"], made["validation"], made["test"], manifest)


def _refuse_unlike(published_train: LabeledImages, published_test: LabeledImages) -> None:
    """Splits of other classes or sizes, or without images of a class."""
    names = published_train.class_names
    if (
        published_test.class_names != names
        or published_test.images.shape[1:] != published_train.images.shape[1:]
    ):
        raise SynthGainError(
            f"train and test differ: classes {names} and {published_test.class_names},"
            f" image shapes {published_train.images.shape[1:]} and {published_test.images.shape[1:]}"
        )
    _need_every_class(published_train, "the published train split", 2, "one for train, one for validation")
    _need_every_class(published_test, "the test split", 1, "a class without test images cannot be judged")


def _draw_validation(
    published_train: LabeledImages, free: Indices, validation_images: int, seed: int
) -> tuple[Indices, Indices]:
    """Validation, stratified by class, and the rest of the free images: those that are not in test."""
    classes = published_train.num_classes
    _need_every_class(
        published_train.subset(free),
        "the published train split without images that are in test as well",
        2,
        "one for train, one for validation",
    )
    most = len(free) - classes
    if not classes <= validation_images <= most:
        raise SynthGainError(
            f"data.validation_images: found {validation_images}; the published train split has"
            f" {len(free)} images of {classes} classes, so {classes} to {most} are allowed"
        )
    rng = np.random.default_rng(seed)
    labels = published_train.labels[free]
    validation = free[stratified_indices(labels, validation_images, classes, rng, leave=1)]
    return validation, np.setdiff1d(free, validation)


def _under_two_labels(hashes: Any, labels: Any) -> int:
    """How many images equal one of another label, to the pixel: at least one label of each such picture is wrong."""
    labels_of: dict[str, set[int]] = {}
    for digest, label in zip(hashes, labels.tolist(), strict=True):
        labels_of.setdefault(digest, set()).add(label)
    return sum(len(labels_of[digest]) > 1 for digest in hashes)


def _need_every_class(images: LabeledImages, where: str, needed: int, why: str) -> None:
    short = [
        f"{name} ({count})"
        for name, count in zip(images.class_names, images.counts(), strict=True)
        if count < needed
    ]
    if short:
        raise SynthGainError(
            f"too few images in {where}: class {', '.join(short)};"
            f" at least {needed} of each class are needed ({why})"
        )


def _describe(name: str, published: LabeledImages, indices: Indices, hashes: Any) -> dict[str, Any]:
    counts = published.subset(indices).counts()
    return {
        "images": len(indices),
        "images_per_class": dict(zip(published.class_names, counts.tolist(), strict=True)),
        "distinct_images": len(set(hashes)),
        "published_split": "test" if name == "test" else "train",
        "index_sha256": index_sha256(indices),
        "pixels_sha256": all_pixels_sha256(hashes),
    }


def all_pixels_sha256(hashes: Sequence[str]) -> str:
    """One hash of a split: of its images' `pixel_sha256`, one per line, in the split's order."""
    return hashlib.sha256("".join(f"{digest}\n" for digest in hashes).encode()).hexdigest()


def _twins(
    dropped: Indices, train_hashes: Any, other: str, other_indices: Indices, other_hashes: Any
) -> list[dict[str, Any]]:
    """Each dropped image of the published train split beside the first image that it equals."""
    first: dict[str, int] = {}
    for index, digest in zip(other_indices.tolist(), other_hashes, strict=True):
        first.setdefault(digest, index)
    return [
        {"published_train_index": index, "identical_to": other, "index": first[train_hashes[index]]}
        for index in dropped.tolist()
    ]
