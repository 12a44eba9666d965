"""Parzen-window log-likelihood, the figure of the first GAN papers; historical, no measure of quality.

A Gaussian on every synthetic image is a density; the figure is the mean log-density of the test images. Theis et
al. 2016 (arXiv:1511.01844) show that it ranks models wrongly (cluster centres beat real images), so it stands in
tables only to be compared with the tables of its time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages

# The 2014 protocol (Goodfellow et al. 2014, arXiv:1406.2661, parzen_ll.py): ten widths on a logarithmic grid, the
# best on 1000 validation images is taken.
SIGMAS = tuple(float(sigma) for sigma in np.logspace(-1, 0, 10))
VALIDATION_IMAGES = 1000
SAMPLES = 10_000

# Distances held at a time: 16 MiB.
_DISTANCES = 2**21

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ParzenLikelihood:
    """A Parzen-window log-likelihood.

    Attributes:
        nats: mean over the test images.
        standard_error: standard deviation ÷ √test images.
        sigma: width of the Gaussians, for pixels in 0..1.
        samples: how many synthetic images carry a Gaussian.
        test_images: how many images were judged.
    """

    nats: float
    standard_error: float
    sigma: float
    samples: int
    test_images: int


def parzen_likelihood(
    *, synthetic: LabeledImages, validation: LabeledImages, test: LabeledImages
) -> ParzenLikelihood:
    """The 2014 protocol: width chosen on validation images, mean over test images, labels ignored.

    The protocol has 10 000 samples and 1000 validation images. With fewer synthetic images the figure is lower:
    `samples` says how many there were. With more of either, every k-th is taken, so that all classes stay.

    Raises:
        SynthGainError: if sizes differ or a set is empty.
    """
    samples = every_kth(synthetic.images, SAMPLES)
    sigma = chosen_sigma(samples, every_kth(validation.images, VALIDATION_IMAGES))
    values = log_densities(samples, test.images, sigmas=(sigma,))[0]
    return ParzenLikelihood(
        nats=float(values.mean()),
        standard_error=float(values.std() / math.sqrt(len(values))),
        sigma=sigma,
        samples=len(samples),
        test_images=len(values),
    )


def every_kth(images: Images, most: int) -> Images:
    """At most `most` of the images, evenly spread: images often come class after class."""
    positions = np.linspace(0, len(images), min(most, len(images)), endpoint=False).astype(np.int64)
    return images[positions]


def chosen_sigma(samples: Images, held_out: Images) -> float:
    """The width among SIGMAS with the highest mean log-density of held-out images."""
    return SIGMAS[int(log_densities(samples, held_out, sigmas=SIGMAS).mean(axis=1).argmax())]


def log_densities(samples: Images, images: Images, *, sigmas: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Log of (1/N) Σᵢ N(x; sampleᵢ, σ²I) in nats for each width and image; pixels count in 0..1.

    Squared distances are sums of whole numbers below 2⁵³: float64 holds them exactly, in whichever order and
    blocks they are computed. The sum of exponentials is taken after subtracting the largest (log-sum-exp): in
    784 dimensions every single density underflows.

    Args:
        samples: (N, C, H, W) uint8, the centres of the Gaussians.
        images: (M, C, H, W) uint8.
        sigmas: the widths, S of them.

    Returns:
        (S, M) float64.

    Raises:
        SynthGainError: if a set is empty, or the image sizes differ.
    """
    if not len(samples) or not len(images) or samples.shape[1:] != images.shape[1:]:
        raise SynthGainError(
            f"Parzen windows: found samples {samples.shape} and images {images.shape}; at least one of each,"
            " of one size, is needed"
        )
    centres, points = _as_table(samples), _as_table(images)
    size = centres.shape[1]
    centre_squares = np.square(centres).sum(axis=1)
    result = np.empty((len(sigmas), len(points)))
    rows = max(1, _DISTANCES // len(centres))
    for start in range(0, len(points), rows):
        block = points[start : start + rows]
        squared = np.square(block).sum(axis=1)[:, None] + centre_squares - 2 * (block @ centres.T)
        for index, sigma in enumerate(sigmas):
            exponents = squared * (-1 / (2 * (255 * sigma) ** 2))
            largest = exponents.max(axis=1, keepdims=True)
            sums = np.log(np.exp(exponents - largest).sum(axis=1)) + largest[:, 0]
            normaliser = size / 2 * math.log(2 * math.pi * sigma**2) + math.log(len(centres))
            result[index, start : start + rows] = sums - normaliser
    return result


def _as_table(images: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return images.reshape(len(images), -1).astype(np.float64)
