"""Kernel distance between two sets of features (KID, where the features are Inception's)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.features import Features, checked_pair

# Kernel values held at a time: 16 MiB.
_KERNEL_VALUES = 2**21


def kernel_distance(*, real: npt.NDArray[Any], synthetic: npt.NDArray[Any]) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel k(x, y) = (x·y/D + 1)³.

    Bińkowski et al. 2018, arXiv:1801.01401. The estimate is Σ_{i≠j} k(ri, rj)/(n(n−1)) + Σ_{i≠j} k(si,
    sj)/(m(m−1)) − 2 Σ_{i,j} k(ri, sj)/(nm), over all images: no random subsets, so no seed and no spread of
    its own. Other programs print the mean over 100 random subsets of 1000 images: an estimate of the same
    quantity, noisier.

    Args:
        real: (n, D) features of the real images.
        synthetic: (m, D) features of the synthetic images.

    Returns:
        A value around or above 0; being unbiased, it may be slightly negative where the two sets agree.

    Raises:
        SynthGainError: for fewer than two images on a side, different feature sizes or values that are not
            finite.
    """
    real_features, synthetic_features = checked_pair(real, synthetic)
    n, m = len(real_features), len(synthetic_features)
    if min(n, m) < 2:
        raise SynthGainError(
            f"kernel distance: found {n} real and {m} synthetic images; at least 2 of each are needed"
        )
    within_real = _kernel_sum(real_features, real_features) - _diagonal_sum(real_features)
    within_synthetic = _kernel_sum(synthetic_features, synthetic_features) - _diagonal_sum(synthetic_features)
    between = _kernel_sum(real_features, synthetic_features)
    return within_real / (n * (n - 1)) + within_synthetic / (m * (m - 1)) - 2 * between / (n * m)


def _kernel_sum(left: Features, right: Features) -> float:
    """Σ k(x, y) over all pairs, a block of rows at a time."""
    rows = max(1, _KERNEL_VALUES // len(right))
    return sum(
        _cubed_sum(left[start : start + rows] @ right.T, left.shape[1]) for start in range(0, len(left), rows)
    )


def _diagonal_sum(features: Features) -> float:
    return _cubed_sum(np.square(features).sum(axis=1), features.shape[1])


def _cubed_sum(products: Features, size: int) -> float:
    """Σ (x·y/D + 1)³; the products are overwritten."""
    products /= size
    products += 1
    return float(np.vdot(products * products, products))
