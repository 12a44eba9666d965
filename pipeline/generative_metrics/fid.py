"""Fréchet distance between two sets of features: FID, always with its n, its extractor and its floor.

A Fréchet distance alone says nothing: it falls with n, its unit is the extractor's, and real images of another
draw do not reach 0. `fid_floor` measures what real images reach in the place of synthetic ones, and `fid` needs
that floor: no value leaves this module without them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.features import Extractor, FeatureStatistics


@dataclass(frozen=True)
class Fid:
    """A Fréchet distance, and what a reader needs to judge it.

    Attributes:
        value: ≥ 0, in squared feature units.
        floor: the same for as many real images in the synthetic images' place.
        n: how many synthetic images (and floor images) it comes from.
        extractor: the network that gave the features.
    """

    value: float
    floor: float
    n: int
    extractor: Extractor


@dataclass(frozen=True, eq=False)
class FidFloor:
    """What real images reach against other real images, and the real images that all are compared with.

    Attributes:
        real: statistics of the real images, the reference.
        value: the distance of the other real images.
        n: how many other real images there are.
    """

    real: FeatureStatistics
    value: float
    n: int


def fid_floor(*, real: FeatureStatistics, other_real: FeatureStatistics) -> FidFloor:
    """The floor: the distance of other real images, disjoint from the reference, from it.

    Raises:
        SynthGainError: if the two come from different extractors or differ in size.
    """
    return FidFloor(real, _frechet_distance(real, other_real), other_real.n)


def fid(*, synthetic: FeatureStatistics, floor: FidFloor) -> Fid:
    """The Fréchet distance of synthetic images from the floor's reference, beside the floor.

    Raises:
        SynthGainError: if the extractors or sizes differ, or n is not the floor's (the value depends on n).
    """
    if synthetic.n != floor.n:
        raise SynthGainError(
            f"FID: found {synthetic.n} synthetic images and a floor of {floor.n}; the value falls with n,"
            " so both need the same number"
        )
    value = _frechet_distance(floor.real, synthetic)
    return Fid(value, floor.value, synthetic.n, synthetic.extractor)


def _frechet_distance(real: FeatureStatistics, synthetic: FeatureStatistics) -> float:
    """Squared Fréchet distance of two Gaussians: |μr−μs|² + tr(Σr + Σs − 2(ΣrΣs)^½).

    Heusel et al. 2017, arXiv:1706.08500; covariances are unbiased (÷ n−1), as in pytorch-fid.

    tr((ΣrΣs)^½) is computed as the sum of the singular values of Σr^½ Σs^½, with the two roots from
    symmetric eigendecompositions. It needs no square root of a non-symmetric matrix, gives no complex
    numbers, and stays accurate where a covariance is singular (n ≤ D), where other programs add a small
    multiple of the identity. With n ≤ D it says more about n than about the images; `evaluate_images`
    refuses that, this function does not.

    Returns:
        A value ≥ 0 in squared feature units; 0 for equal means and covariances.

    Raises:
        SynthGainError: if the extractors or the feature sizes differ.
    """
    if real.extractor != synthetic.extractor:
        raise SynthGainError(
            f"features of two extractors: {real.extractor} for real, {synthetic.extractor} for synthetic images;"
            " both need the same extractor"
        )
    if real.size != synthetic.size:
        raise SynthGainError(
            f"feature sizes differ: {real.size} for real, {synthetic.size} for synthetic images;"
            " both need the same extractor"
        )
    between_means = float(np.square(real.mean - synthetic.mean).sum())
    roots = _symmetric_root(real.covariance) @ _symmetric_root(synthetic.covariance)
    overlap = float(np.linalg.svd(roots, compute_uv=False).sum())
    distance = between_means + float(np.trace(real.covariance) + np.trace(synthetic.covariance)) - 2 * overlap
    return max(distance, 0.0)  # rounding may leave −1e-15 where the true value is 0


def _symmetric_root(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The symmetric positive semidefinite square root of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    root: npt.NDArray[np.float64] = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root
