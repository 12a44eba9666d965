"""The canonical samples of an export: which images, in which order, under which ids. Every format derives from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.export.ids import place_in_class, sample_id
from pipeline.export.source import ImageFile, Rows, as_pictures
from pipeline.images import LabeledImages

Indices = npt.NDArray[np.int64]
# As pictures (n, H, W) or (n, H, W, 3) uint8, or what gives them.
Pixels = npt.NDArray[np.uint8] | Callable[[], npt.NDArray[np.uint8]]
# (label, places (n,) of images among those of the label) → the SHA-256 of each one's z, in hex
LatentHashes = Callable[[int, Indices], list[str]]


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of an export in their order.

    Attributes:
        labels: (N,) int64.
        places: (N,) int64: place of the image among those of its label in its source; part of the id.
        real: (N,) bool.
        positions: (N,) int64: row of the image in its source.
        synthetic_file: where synthetic images come from.
        real_images: where real ones come from, or None.
        measurements: (N,) float32 by name, NaN where unknown; label_score and nearest_real_distance.
        label_filter: what a filter was applied (JSON values), or None.
        latent_hashes: gives the hash of the z of synthetic images, or None where z is not known.
    """

    labels: Indices
    places: Indices
    real: npt.NDArray[np.bool_]
    positions: Indices
    synthetic_file: ImageFile
    real_images: LabeledImages | None
    measurements: Mapping[str, npt.NDArray[np.float32]]
    label_filter: Mapping[str, Any] | None
    latent_hashes: LatentHashes | None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class, in label order."""
        return self.synthetic_file.class_names

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.synthetic_file.channels

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the synthetic images come from."""
        return self.synthetic_file.provenance

    def counts(self, *, real: bool) -> list[int]:
        """Real or synthetic images of each class."""
        counts: list[int] = np.bincount(
            self.labels[self.real == real], minlength=len(self.class_names)
        ).tolist()
        return counts

    def ids(self, start: int, stop: int) -> list[str]:
        """The ids of samples start..stop−1."""
        part = slice(start, stop)
        columns = (self.labels[part].tolist(), self.places[part].tolist(), self.real[part].tolist())
        return [sample_id(label, place, real=real) for label, place, real in zip(*columns, strict=True)]

    def images(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """The pixels of samples start..stop−1: (n, H, W), in colour (n, H, W, 3)."""
        real, positions = self.real[start:stop], self.positions[start:stop]
        colour = (3,) if self.channels == 3 else ()
        pixels = np.empty((len(real), *self.synthetic_file.image_size, *colour), dtype=np.uint8)
        pixels[~real] = as_pictures(self.synthetic_file.rows(positions[~real]))
        if self.real_images is not None:
            images = self.real_images.images[positions[real]]
            pixels[real] = as_pictures(images if colour else images[:, 0])
        return pixels

    def images_for_worker(self, start: int, stop: int) -> Pixels:
        """The same; images that are drawn, as a function that draws them."""
        if not self.synthetic_file.is_drawn:
            return self.images(start, stop)
        return partial(_drawn, self.synthetic_file.rows, self.positions[start:stop])

    def z_sha256(self, start: int, stop: int) -> list[str | None]:
        """The hash of each sample's z, None for real images and where it is not known."""
        hashes: list[str | None] = [None] * (stop - start)
        if self.latent_hashes is None:
            return hashes
        labels, places = self.labels[start:stop], self.places[start:stop]
        for label in np.unique(labels).tolist():
            chosen = np.flatnonzero((labels == label) & ~self.real[start:stop])
            if len(chosen):
                for position, value in zip(chosen, self.latent_hashes(label, places[chosen]), strict=True):
                    hashes[position] = value
        return hashes

    def digest(self) -> str:
        """A hash of everything that the samples are."""
        real = self.real_images
        facts = [
            self.synthetic_file.sha256,
            None if real is None else hashlib.sha256(real.images.tobytes()).hexdigest(),
            self.label_filter,
            self.latent_hashes is not None,
        ]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for array in (self.labels, self.places, self.real, self.positions, *self.measurements.values()):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _drawn(rows: Rows, positions: Indices) -> npt.NDArray[np.uint8]:
    return as_pictures(rows(positions))


def select_samples(
    synthetic: ImageFile,
    *,
    max_per_class: int | None = None,
    scores: npt.NDArray[np.float32] | None = None,
    threshold: float | None = None,
    scored_by: str | None = None,
    real: LabeledImages | None = None,
    latent_hashes: LatentHashes | None = None,
) -> Samples:
    """The samples of an export.

    The order mixes the classes evenly, and the same set gives the same order: the i-th of n images of a class
    stands at (i + ½)/n. So each shard, and each beginning of the data set, has the shares of the whole.

    Args:
        synthetic: the generated images.
        max_per_class: at most so many synthetic images of each class, those with the smallest ids.
        scores: (N,) probability that a classifier gives the label of each synthetic image.
        threshold: synthetic images with a smaller score are left out.
        scored_by: SHA-256 of the classifier that gave the scores.
        real: real images to put beside them.
        latent_hashes: see `Samples`.

    Raises:
        SynthGainError: if the file holds no synthetic images, a class loses all of its images, or the real
            images are of other classes or another size.
    """
    if (kind := synthetic.provenance.get("kind")) != "synthetic":
        raise SynthGainError(
            f"{synthetic.path}: its kind is {kind}, only synthetic images may be exported; name a file that"
            " `synthgain generate` or the generate stage wrote"
        )
    measurements = dict(synthetic.measurements)
    if scores is not None:
        measurements["label_score"] = scores
    kept = np.ones(len(synthetic), dtype=bool)
    label_filter = None
    if threshold is not None:
        if "label_score" not in measurements:
            raise SynthGainError(f"{synthetic.path}: no label scores to filter by; name an --extractor")
        kept = measurements["label_score"] >= threshold
        label_filter = _filter_facts(synthetic, kept, threshold, scored_by)
    if max_per_class is not None:
        kept &= place_in_class(synthetic.labels, among=kept) < max_per_class
    positions = np.flatnonzero(kept)
    samples = Samples(
        labels=synthetic.labels[positions],
        places=place_in_class(synthetic.labels)[positions],
        real=np.zeros(len(positions), dtype=bool),
        positions=positions,
        synthetic_file=synthetic,
        real_images=None,
        measurements={name: values[positions] for name, values in measurements.items()},
        label_filter=label_filter,
        latent_hashes=latent_hashes,
    )
    return _in_even_order(samples if real is None else _with_real(samples, real))


def _with_real(samples: Samples, real: LabeledImages) -> Samples:
    """The samples, and all real images after them."""
    synthetic = samples.synthetic_file
    shape = (synthetic.channels, *synthetic.image_size)
    if real.class_names != synthetic.class_names or real.images.shape[1:] != shape:
        raise SynthGainError(
            f"{synthetic.path}: classes, size or channels differ from those of the real images"
            f" ({real.num_classes} classes, {real.images.shape[2]}×{real.images.shape[3]}, {real.channels} channels)"
        )
    unknown = np.full(len(real), np.nan, dtype=np.float32)
    return replace(
        samples,
        labels=np.concatenate([samples.labels, real.labels]),
        places=np.concatenate([samples.places, place_in_class(real.labels)]),
        real=np.concatenate([samples.real, np.ones(len(real), dtype=bool)]),
        positions=np.concatenate([samples.positions, np.arange(len(real))]),
        real_images=real,
        measurements={
            name: np.concatenate([values, unknown]) for name, values in samples.measurements.items()
        },
    )


def _in_even_order(samples: Samples) -> Samples:
    group = 2 * samples.labels + samples.real
    counts = np.bincount(group)
    key = (place_in_class(group) + 0.5) / counts[group]
    order = np.lexsort((group, key))
    return replace(
        samples,
        labels=samples.labels[order],
        places=samples.places[order],
        real=samples.real[order],
        positions=samples.positions[order],
        measurements={name: values[order] for name, values in samples.measurements.items()},
    )


def _filter_facts(
    synthetic: ImageFile, kept: npt.NDArray[np.bool_], threshold: float, scored_by: str | None
) -> dict[str, Any]:
    classes = len(synthetic.class_names)
    generated = np.bincount(synthetic.labels, minlength=classes)
    accepted = np.bincount(synthetic.labels[kept], minlength=classes)
    for name, before, after in zip(synthetic.class_names, generated, accepted, strict=True):
        if before and not after:
            raise SynthGainError(
                f"--filter: found {threshold:g}; no image of class {name} has that score; lower it, or leave it out"
            )
    return {
        "minimum_label_score": threshold,
        "classifier_sha256": scored_by,
        "accepted": accepted.tolist(),
        "of": generated.tolist(),
    }
