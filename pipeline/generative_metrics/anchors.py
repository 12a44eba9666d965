"""What a generator has to beat: labelled images from simple models of the real ones, and from none at all.

Each takes real images and gives `counts` images of each class, (C,) int64, in class order, with a generator of
its own to draw from. Pixels are rounded and clipped to 0..255.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages, draw_indices

# Standard deviation of the copycat's noise in grey levels: it hides no stroke, and no two copies are equal.
COPYCAT_NOISE = 4.0

Counts = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.float64]


def copycat(real: LabeledImages, *, counts: Counts, rng: np.random.Generator) -> LabeledImages:
    """The real images themselves with a little noise, each as often as any other of its class.

    What memorising reaches: a generator that does not beat it has added nothing that copies do not have.
    """
    return _kernel_density(real, counts, COPYCAT_NOISE, rng)


def class_kernel_density(
    real: LabeledImages, *, counts: Counts, sigma: float, rng: np.random.Generator
) -> LabeledImages:
    """A sample of each class's kernel density: its real images with Gaussian noise.

    Args:
        real: the images to draw from.
        counts: how many of each class.
        sigma: width of the kernel for pixels in 0..1, as `likelihood.chosen_sigma` finds it.
        rng: draws images and noise.
    """
    return _kernel_density(real, counts, 255 * sigma, rng)


def class_gaussian(real: LabeledImages, *, counts: Counts, rng: np.random.Generator) -> LabeledImages:
    """A sample of one Gaussian per class: its mean and its full covariance, shrunk towards a sphere.

    The shrinkage is Ledoit and Wolf's (2004), without a setting: a few images give no covariance of hundreds of
    pixels.
    """
    from sklearn.covariance import ledoit_wolf

    def sample(members: Pixels, count: int) -> Pixels:
        mean = members.mean(axis=0)
        if len(members) == 1:  # it has no covariance
            return members.repeat(count, axis=0)
        covariance, _ = ledoit_wolf(members - mean, assume_centered=True)
        values, vectors = np.linalg.eigh(covariance)
        noise = rng.normal(size=(count, len(mean))) * np.sqrt(np.clip(values, 0, None))
        drawn: Pixels = mean + noise @ vectors.T
        return drawn

    return _by_class(real, counts, sample)


def class_mixup(real: LabeledImages, *, counts: Counts, rng: np.random.Generator) -> LabeledImages:
    """Two real images of a class, blended: λ·first + (1−λ)·second with λ uniform in 0..1.

    Zhang et al. 2018 (arXiv:1710.09412) with α = 1, within a class, so that an image keeps one label.
    """

    def sample(members: Pixels, count: int) -> Pixels:
        first, second = rng.integers(len(members), size=(2, count))
        share = rng.random((count, 1))
        blended: Pixels = share * members[first] + (1 - share) * members[second]
        return blended

    return _by_class(real, counts, sample)


def _kernel_density(
    real: LabeledImages, counts: Counts, noise: float, rng: np.random.Generator
) -> LabeledImages:
    drawn = real.subset(draw_indices(real.labels, counts, rng))
    values = drawn.images + rng.normal(scale=noise, size=drawn.images.shape)
    return LabeledImages(_as_pixels(values), drawn.labels, real.class_names)


def _by_class(real: LabeledImages, counts: Counts, sample: Callable[[Pixels, int], Pixels]) -> LabeledImages:
    """`counts` images of each class from `sample`: (members, pixels) grey levels and a count → (count, pixels)."""
    parts = []
    for label, count in enumerate(counts):
        members = real.images[real.labels == label].reshape(-1, real.images[0].size).astype(np.float64)
        if not len(members) and count:
            raise SynthGainError(f"class {real.class_names[label]}: no real image to make others from")
        parts.append(sample(members, int(count)) if count else members[:0])
    images = _as_pixels(np.concatenate(parts).reshape(-1, *real.images.shape[1:]))
    return LabeledImages(images, np.arange(len(counts), dtype=np.int64).repeat(counts), real.class_names)


def _as_pixels(values: Pixels) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
