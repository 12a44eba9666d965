"""Means over replicates, and paired differences between arms, with Student-t intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special

from pipeline.errors import SynthGainError

CONFIDENCE = 0.95

Values = Sequence[float] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class MeanInterval:
    """A mean and its interval, in the unit of the values.

    Attributes:
        n: how many values were averaged.
        mean: their arithmetic mean.
        low: lower end of the interval; None with one value, which says nothing about spread.
        high: upper end, likewise.
    """

    n: int
    mean: float
    low: float | None
    high: float | None


def mean_interval(values: Values) -> MeanInterval:
    """Mean and Student-t interval: x̄ ± t(0.975, n−1) · s/√n, with s the unbiased standard deviation (÷ n−1).

    Student 1908, "The probable error of a mean", Biometrika 6(1). It assumes replicates that are independent
    and roughly normal. It covers what differs between replicates (real subset, GAN, classifier seed) and not
    the finite test split, which all of them share.

    Args:
        values: (n,) finite numbers, one per replicate.

    Raises:
        SynthGainError: without any value, or with one that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise SynthGainError(f"mean_interval: found shape {array.shape}; (n,) values with n ≥ 1 are needed")
    if not np.isfinite(array).all():
        raise SynthGainError(f"mean_interval: found {array.tolist()}; every value must be a finite number")
    mean = float(array.mean())
    if array.size == 1:
        return MeanInterval(1, mean, None, None)
    if np.ptp(array) == 0:  # the rounding of a mean would give equal values a width
        return MeanInterval(array.size, float(array[0]), float(array[0]), float(array[0]))
    quantile = scipy.special.stdtrit(array.size - 1, (1 + CONFIDENCE) / 2)
    half_width = float(quantile * array.std(ddof=1) / np.sqrt(array.size))
    return MeanInterval(array.size, mean, mean - half_width, mean + half_width)


def paired_difference(*, baseline: Values, candidate: Values) -> MeanInterval:
    """Mean of candidate − baseline over replicates, with the interval of the paired t-test.

    d̄ ± t(0.975, n−1) · s_d/√n, where d_i = candidate_i − baseline_i. What the two arms of a replicate share
    (real subset, classifier initialisation, batch order) cancels in d_i, so the interval is narrower than the
    arms' own intervals suggest: two arms whose intervals overlap may still differ.

    Args:
        baseline: (n,) one value per replicate.
        candidate: (n,) the same replicates in the same order.

    Raises:
        SynthGainError: if the lengths differ, or as `mean_interval`.
    """
    before, after = np.asarray(baseline, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    if before.shape != after.shape:
        raise SynthGainError(
            f"paired_difference: found {before.size} baseline and {after.size} candidate values;"
            " each replicate needs one of both"
        )
    return mean_interval(after - before)
