"""Features (N, D) of images, the network they come from, and the statistics that the Fréchet distance compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError

Features = npt.NDArray[np.float64]
# (N, C, H, W) uint8 images -> (N, D) float32 features and (N, num_classes) float32 class probabilities.
FeaturesAndProbabilities = Callable[
    [npt.NDArray[np.uint8]], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
]


@dataclass(frozen=True)
class Extractor:
    """Which network features come from: features of two networks are never compared.

    Attributes:
        features: domain (the small CNN of this data set), or inception (the original FID network).
        sha256: the hash of its weights' file.
    """

    features: Literal["domain", "inception"]
    sha256: str

    def __str__(self) -> str:
        return f"{self.features} {self.sha256[:12]}"


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """First and second moments of a set of features.

    Attributes:
        n: how many images they come from, at least 2.
        mean: (D,) float64.
        covariance: (D, D) float64, unbiased (÷ n−1), symmetric. Singular where n ≤ D.
        extractor: the network that gave the features.
    """

    n: int
    mean: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64]
    extractor: Extractor

    def __post_init__(self) -> None:
        if self.n < 2:
            raise SynthGainError(
                f"feature statistics: found n = {self.n}; a covariance needs at least 2 images"
            )
        if self.mean.ndim != 1 or self.covariance.shape != (self.size, self.size):
            raise SynthGainError(
                f"feature statistics: found mean {self.mean.shape}, covariance {self.covariance.shape};"
                " (D,) and (D, D) are needed"
            )

    @property
    def size(self) -> int:
        """D, the number of features of an image."""
        return len(self.mean)


def checked_features(features: npt.NDArray[Any], *, label: str) -> Features:
    """Features as (N, D) float64; `label` names their images in the error.

    Raises:
        SynthGainError: if they are not a table of finite numbers.
    """
    if features.ndim != 2 or 0 in features.shape:
        raise SynthGainError(
            f"features of the {label} images: found shape {features.shape}; (N, D) is needed"
        )
    converted = features.astype(np.float64)
    if not np.isfinite(converted).all():
        raise SynthGainError(
            f"features of the {label} images: found infinite or undefined values; train the extractor again"
        )
    return converted


def checked_pair(real: npt.NDArray[Any], synthetic: npt.NDArray[Any]) -> tuple[Features, Features]:
    """Two sets of features of the same size D, as float64.

    Raises:
        SynthGainError: if either is not a table of finite numbers, or their sizes differ.
    """
    checked = checked_features(real, label="real"), checked_features(synthetic, label="synthetic")
    if checked[0].shape[1] != checked[1].shape[1]:
        raise SynthGainError(
            f"feature sizes differ: {checked[0].shape[1]} for real,"
            f" {checked[1].shape[1]} for synthetic images; both need the same extractor"
        )
    return checked


def statistics_from_features(features: npt.NDArray[Any], *, extractor: Extractor) -> FeatureStatistics:
    """Mean and unbiased covariance of (N, D) features, in float64.

    Two passes (the mean first, then the centred products): the one-pass formula E[xxᵀ]−μμᵀ cancels digits.

    Raises:
        SynthGainError: for fewer than two images, or values that are not finite.
    """
    values = checked_features(features, label="given")
    n = len(values)
    if n < 2:
        raise SynthGainError(f"feature statistics: found n = {n}; a covariance needs at least 2 images")
    mean = values.mean(axis=0)
    centered = values - mean
    return FeatureStatistics(n, mean, centered.T @ centered / (n - 1), extractor)
