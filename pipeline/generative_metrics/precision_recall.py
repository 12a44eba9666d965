"""Precision, recall, density and coverage: fidelity and diversity apart, from nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.features import checked_pair

# Distances held at a time: 16 MiB.
_DISTANCES = 2**21


@dataclass(frozen=True)
class ManifoldMetrics:
    """Fidelity (precision, density) and diversity (recall, coverage) of synthetic images.

    Attributes:
        precision: share of synthetic images inside the real manifold, 0..1.
        recall: share of real images inside the synthetic manifold, 0..1.
        density: how many real balls a synthetic image lies in, in units of k; about 1 for equal
            distributions, no upper bound.
        coverage: share of real images whose ball holds a synthetic image, 0..1.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_metrics(
    *, real: npt.NDArray[Any], synthetic: npt.NDArray[Any], neighbors: int
) -> ManifoldMetrics:
    """The four metrics at k = `neighbors`.

    The ball of an image reaches to the k-th nearest other image of its own set; a manifold is the union of
    the balls. Precision and recall: Kynkäänniemi et al. 2019, arXiv:1904.06991. Density and coverage: Naeem
    et al. 2020, arXiv:2002.09797. "Inside" is strict (<), as in `prdc`, the latter's code: a set against
    itself has density 1. Equal distributions do not give 1 everywhere (precision and recall stay below):
    read them beside the floor.

    Features are rounded to whole multiples of about 2⁻²² (at D = 64) of the largest absolute value, float32's
    own accuracy. All distances are then exact whole numbers: neither the order of the images nor the blocks
    nor the number of threads can change a value. Memory is bounded: distances are computed in blocks.

    Args:
        real: (n, D) features of the real images.
        synthetic: (m, D) features of the synthetic images.
        neighbors: k, smaller than n and m.

    Raises:
        SynthGainError: for too few images, different feature sizes or values that are not finite.
    """
    real_grid, synthetic_grid = _on_a_grid(*checked_pair(real, synthetic))
    fewest = min(len(real_grid), len(synthetic_grid))
    if not 1 <= neighbors < fewest:
        raise SynthGainError(
            f"evaluation.neighbors: found {neighbors};"
            f" with {fewest} images on a side, 1..{fewest - 1} is allowed"
        )
    real_radii = _radii(real_grid, neighbors)
    synthetic_radii = _radii(synthetic_grid, neighbors)

    real_balls_around = torch.zeros(len(synthetic_grid), dtype=torch.int64)  # per synthetic image
    in_synthetic_manifold = covered = 0
    for rows, distances in _squared_distances(real_grid, synthetic_grid):
        in_real_ball = distances < real_radii[rows, None]
        real_balls_around += in_real_ball.sum(dim=0)
        covered += int(in_real_ball.any(dim=1).sum())
        in_synthetic_manifold += int((distances < synthetic_radii).any(dim=1).sum())
    n, m = len(real_grid), len(synthetic_grid)
    return ManifoldMetrics(
        precision=int((real_balls_around > 0).sum()) / m,
        recall=in_synthetic_manifold / n,
        density=int(real_balls_around.sum()) / (neighbors * m),
        coverage=covered / n,
    )


def _on_a_grid(*sets: npt.NDArray[np.float64]) -> list[torch.Tensor]:
    """The sets as whole numbers in float64, on one grid, small enough that their squared distances are exact.

    A squared distance is computed as |x|² + |y|² − 2x·y, which cancels digits in floating point. Whole
    numbers of b bits give sums of at most 4D·2²ᵇ; below 2⁵³ float64 holds every one of them exactly, in
    any order of addition.
    """
    bits = (51 - math.ceil(math.log2(sets[0].shape[1]))) // 2
    largest = max(float(np.abs(features).max()) for features in sets)
    # A power of two: scaling itself loses nothing.
    scale = 2.0 ** min(bits - math.ceil(math.log2(largest)), 1000) if largest > 0 else 1.0
    return [torch.from_numpy(np.rint(features * scale)) for features in sets]


def _squared_distances(left: torch.Tensor, right: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Blocks of rows of the (n, m) squared distances, with their place."""
    right_squares = right.square().sum(dim=1)
    rows = max(1, _DISTANCES // len(right))
    for start in range(0, len(left), rows):
        block = left[start : start + rows]
        distances = torch.addmm(
            block.square().sum(dim=1, keepdim=True) + right_squares, block, right.T, alpha=-2
        )
        yield slice(start, start + rows), distances


def _radii(features: torch.Tensor, neighbors: int) -> torch.Tensor:
    """(N,) squared distance of each image to its k-th nearest other image."""
    return torch.cat(
        [
            # The nearest of all is the image itself, at 0.
            distances.topk(neighbors + 1, dim=1, largest=False).values[:, -1]
            for _, distances in _squared_distances(features, features)
        ]
    )
