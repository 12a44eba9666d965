"""Means over replicates, paired differences between arms, and what a design of so many replicates can tell.

All tests are two-sided. SciPy does the arithmetic; tests hold it against statsmodels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.special

from pipeline.errors import SynthGainError

CONFIDENCE = 0.95
POWER = 0.8  # of the minimum detectable effect, and of the number of replicates that would settle a question
MOST_FOR_SIGN_FLIPS = 12  # replicates: 4096 ways to flip their signs
MOST_REPLICATES = 100_000  # beyond, "how many would settle it" has no practical answer

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


@dataclass(frozen=True)
class PairedTest:
    """All that a paired comparison of two arms says. What its replicates cannot tell is None.

    Attributes:
        difference: mean of candidate − baseline, with its Student-t interval.
        standard_deviation: of the differences, unbiased (÷ n−1).
        p: of the paired t-test against no difference.
        p_sign_flip: of the exact permutation test.
        improvement: share of replicates in which the candidate is better, with its bootstrap interval.
        minimum_detectable_effect: the true difference that a study of this size finds 8 times in 10.
        replicates_to_settle: how many replicates find a true difference as large as the observed one 8 times
            in 10.
    """

    difference: MeanInterval
    standard_deviation: float | None
    p: float | None
    p_sign_flip: float | None
    improvement: MeanInterval
    minimum_detectable_effect: float | None
    replicates_to_settle: int | None


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
    array = _checked(values)
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
    return mean_interval(_differences(baseline, candidate))


def paired_test(*, baseline: Values, candidate: Values) -> PairedTest:
    """Everything about the difference of two arms: interval, p-values, and what the design can detect.

    Args:
        baseline: (n,) one value per replicate.
        candidate: (n,) the same replicates in the same order.

    Raises:
        SynthGainError: as `paired_difference`.
    """
    differences = _checked(_differences(baseline, candidate))
    difference = mean_interval(differences)
    spread = _standard_deviation(differences)
    return PairedTest(
        difference=difference,
        standard_deviation=spread,
        p=None if spread is None else _t_test_p(difference.mean, spread, difference.n),
        p_sign_flip=sign_flip_p(differences),
        improvement=probability_of_improvement(differences),
        minimum_detectable_effect=None if spread is None else minimum_detectable_effect(spread, difference.n),
        replicates_to_settle=None if spread is None else replicates_to_settle(difference.mean, spread),
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The p-values of one family, adjusted so that a single false finding in it is as rare as for one test.

    Holm 1979: the i-th smallest (from 0) of m is multiplied by m − i, and is no smaller than the one before.
    A comparison without a p-value counts in m, and stays without.
    """
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(sorted((p, i) for i, p in enumerate(p_values) if p is not None)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        adjusted[place] = largest
    return adjusted


def sign_flip_p(differences: Values) -> float | None:
    """Exact two-sided p of a permutation test: how many of the 2ⁿ ways to sign the differences go as far.

    Without an effect each difference is as likely negative as positive: nothing is assumed of their shape.
    The smallest possible p is 2/2ⁿ, so fewer than six replicates cannot reach 0.05.

    Returns:
        None for a single replicate, and for more than `MOST_FOR_SIGN_FLIPS`.
    """
    array = _checked(differences)
    if not 2 <= array.size <= MOST_FOR_SIGN_FLIPS:
        return None
    flips = np.arange(2**array.size)[:, None] >> np.arange(array.size) & 1
    sums = np.abs((1 - 2 * flips) @ array)
    observed = abs(array.sum())
    # As far but for rounding is as far: the observed signs are one of the ways.
    return float((sums >= observed - 1e-12 * np.abs(array).sum()).mean())


def probability_of_improvement(differences: Values) -> MeanInterval:
    """Share of replicates in which the candidate is better (equal ones count half), with a bootstrap interval.

    Bouthillier et al. 2021, arXiv:2103.03098, on pairs. The percentile interval is that of the bootstrap's
    exact distribution, of which resampling would be an approximation. Where all replicates agree, resampling
    them shows no spread, and there is no interval. With fewer than ten replicates it is too narrow.
    """
    array = _checked(differences)
    halves = (1 + np.sign(array)).astype(np.int64)  # 0 worse, 1 equal, 2 better
    share = float(halves.mean() / 2)
    if np.ptp(halves) == 0:
        return MeanInterval(array.size, share, None, None)
    one_replicate = np.bincount(halves, minlength=3) / array.size
    total = np.ones(1)
    for _ in range(array.size):
        total = np.convolve(total, one_replicate)
    cumulative = np.cumsum(total)
    tail = (1 - CONFIDENCE) / 2
    low, high = (
        int(np.searchsorted(cumulative, level - 1e-12)) / (2 * array.size) for level in (tail, 1 - tail)
    )
    return MeanInterval(array.size, share, low, high)


def minimum_detectable_effect(standard_deviation: float, n: int) -> float:
    """The true mean difference that the paired t-test on n replicates finds with a power of `POWER`.

    Args:
        standard_deviation: of the paired differences, above 0.
        n: how many replicates, at least 2.

    Raises:
        SynthGainError: if there is no spread, or one replicate.
    """
    if n < 2 or standard_deviation <= 0:
        raise SynthGainError(
            f"minimum_detectable_effect: found n {n}, standard deviation {standard_deviation};"
            " at least 2 and above 0 are needed"
        )
    effect = scipy.optimize.brentq(lambda size: t_test_power(size, n) - POWER, 1e-9, 100.0)
    return float(effect) * standard_deviation


def replicates_to_settle(difference: float, standard_deviation: float) -> int | None:
    """The smallest number of replicates whose paired t-test finds this difference with a power of `POWER`.

    It takes the observed difference and spread for the true ones: with few replicates both are rough guesses.

    Returns:
        None without a difference, or where more than `MOST_REPLICATES` would be needed.
    """
    if difference == 0 or standard_deviation <= 0:
        return None
    size = abs(difference) / standard_deviation
    low, high = 1, 2  # too few, perhaps enough
    while t_test_power(size, high) < POWER:
        low, high = high, 2 * high
        if low > MOST_REPLICATES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if t_test_power(size, middle) >= POWER else (middle, high)
    return high if high <= MOST_REPLICATES else None


def t_test_power(effect_size: float, n: int) -> float:
    """How often the two-sided paired t-test at level 1 − `CONFIDENCE` finds a true difference.

    Args:
        effect_size: the true mean difference, at least 0, in standard deviations of the differences.
        n: how many replicates, at least 2.
    """
    critical = scipy.special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)
    shift = effect_size * math.sqrt(n)
    above = 1 - scipy.special.nctdtr(n - 1, shift, critical)
    below = scipy.special.nctdtr(n - 1, shift, -critical)
    # Far out, at a shift of 38 and more, SciPy's noncentral t gives NaN: there, everything lies above.
    return float((1.0 if np.isnan(above) else above) + (0.0 if np.isnan(below) else below))


def sampling_error(accuracy: float, images: int) -> float:
    """Standard error √(p(1−p)/n) of an accuracy that comes from judging on n test images and not on all there are.

    All replicates share the test split, so no interval over replicates holds it; most of it cancels in a
    paired difference.
    """
    return math.sqrt(accuracy * (1 - accuracy) / images)


def _t_test_p(mean: float, spread: float, n: int) -> float:
    statistic = abs(mean) / (spread / math.sqrt(n))
    return float(2 * scipy.special.stdtr(n - 1, -statistic))


def _standard_deviation(array: npt.NDArray[np.float64]) -> float | None:
    """None where there is no spread to judge by: one replicate, or replicates that agree by chance."""
    if array.size < 2 or np.ptp(array) <= 1e-12:
        return None
    return float(array.std(ddof=1))


def _differences(baseline: Values, candidate: Values) -> npt.NDArray[np.float64]:
    before, after = np.asarray(baseline, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    if before.shape != after.shape:
        raise SynthGainError(
            f"paired_difference: found {before.size} baseline and {after.size} candidate values;"
            " each replicate needs one of both"
        )
    return after - before


def _checked(values: Values) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise SynthGainError(f"mean_interval: found shape {array.shape}; (n,) values with n ≥ 1 are needed")
    if not np.isfinite(array).all():
        raise SynthGainError(f"mean_interval: found {array.tolist()}; every value must be a finite number")
    return array
