"""Fréchet distance between two sets of features (FID, where the features are Inception's)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.evaluation.features import FeatureStatistics


def frechet_distance(*, real: FeatureStatistics, synthetic: FeatureStatistics) -> float:
    """Squared Fréchet distance of two Gaussians: |μr−μs|² + tr(Σr + Σs − 2(ΣrΣs)^½).

    Heusel et al. 2017, arXiv:1706.08500; covariances are unbiased (÷ n−1), as in pytorch-fid.

    tr((ΣrΣs)^½) is computed as the sum of the singular values of Σr^½ Σs^½, with the two roots from
    symmetric eigendecompositions. It needs no square root of a non-symmetric matrix, gives no complex
    numbers, and stays accurate where a covariance is singular (n ≤ D), where other programs add a small
    multiple of the identity.

    The value has a bias that falls with n: compare values of the same n only, and read them beside their
    floor. With n ≤ D it says more about n than about the images; `evaluate_images` refuses that, this
    function does not.

    Returns:
        A value ≥ 0 in squared feature units; 0 for equal means and covariances.

    Raises:
        SynthGainError: if the feature sizes differ (fewer than two images: `FeatureStatistics` refuses them).
    """
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
