"""Means over replicates, paired differences between arms, and what a design of so many replicates can tell.

All tests are two-sided. SciPy does the arithmetic; tests hold it against statsmodels.

**Overlap.** Replicates draw their real images from one train split. Where that is not much larger than the budget, they
share images, and what they share makes their results alike: their spread is too small, and so would be an interval.
With a mean share o of images in common between two replicates, results correlate by o at most (by o if the images alone
make them differ, and roughly linearly; by 0 if seeds do). The variance of a mean of n with correlation o is
s²·(1/n + o/(1−o)) (Nadeau and Bengio 2003, "Inference for the generalization error", Machine Learning 52; Bouckaert and
Frank 2004, "Evaluating the replicability of significance tests for comparing learning algorithms"), for the n−1 degrees
of freedom of Student's t. It is exact where images make all of the spread, and too wide where seeds make much of it.
With an overlap of 1 all replicates have the same images: no spread tells of others. The interval is then the plain one,
and about the seeds alone.
"""

from __future__ import annotations

import functools
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
class Detectable:
    """A minimum detectable effect: the true difference, above 0, that a rule finds with a power of `POWER`.

    Attributes:
        effect: with the spread of the replicates at hand for the true one.
        low, high: with the ends of that spread's own interval: few replicates hardly know their spread.
    """

    effect: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """All that a paired comparison of two arms says. What its replicates cannot tell is None.

    Attributes:
        difference: mean of candidate − baseline, with its Student-t interval.
        standard_deviation: of the differences, unbiased (÷ n−1).
        p: of the paired t-test against no difference.
        p_sign_flip: of the exact permutation test.
        improvement: share of replicates in which the candidate is better, with its bootstrap interval.
        detectable: the true difference that the t-test on so many replicates finds 8 times in 10.
        replicates_to_settle: how many replicates find a true difference as large as the observed one 8 times
            in 10.
    """

    difference: MeanInterval
    standard_deviation: float | None
    p: float | None
    p_sign_flip: float | None
    improvement: MeanInterval
    detectable: Detectable | None
    replicates_to_settle: int | None


def mean_interval(values: Values, *, overlap: float = 0.0) -> MeanInterval:
    """Mean and Student-t interval: x̄ ± t(0.975, n−1) · s·√(1/n + o/(1−o)), with s the unbiased standard deviation.

    Student 1908, "The probable error of a mean", Biometrika 6(1), for an overlap o of 0. It assumes replicates that are
    roughly normal. It covers what differs between replicates (real subset, GAN, classifier seed) and not the
    finite test split, which all of them share.

    Args:
        values: (n,) finite numbers, one per replicate.
        overlap: 0..1, the mean share of real images that two replicates have in common (see the module).

    Raises:
        SynthGainError: without any value, with one that is not finite, or with an overlap outside 0..1.
    """
    array = _checked(values)
    if array.size == 1:
        return MeanInterval(1, float(array.mean()), None, None)
    if np.ptp(array) == 0:  # the rounding of a mean would give equal values a width
        return MeanInterval(array.size, float(array[0]), float(array[0]), float(array[0]))
    low, high = interval_ends(array, overlap=overlap)
    return MeanInterval(array.size, float(array.mean()), float(low), float(high))


def interval_ends(
    values: npt.NDArray[np.float64], *, overlap: float = 0.0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The ends of `mean_interval` of many studies at once: values (..., n) with n ≥ 2, ends (...)."""
    n = values.shape[-1]
    mean = values.mean(axis=-1)
    half_width = _critical(n) * values.std(axis=-1, ddof=1) * math.sqrt(variance_of_mean(n, overlap))
    return mean - half_width, mean + half_width


def share_interval(values: Values, *, overlap: float = 0.0) -> MeanInterval:
    """Mean of shares in 0..1 (an accuracy, an F1, a recall), and an interval that lies in 0..1 too.

    Student's interval on the logit scale, by the delta method: logit(x̄) ± t(0.975, n−1) · SE / (x̄(1−x̄)), turned back.
    The mean is the arithmetic one; the interval is not symmetric around it. Logit interval of a share: Brown, Cai and
    DasGupta 2001, "Interval estimation for a binomial proportion", Statistical Science 16(2), §4.3; with a standard
    error from replicates: Korn and Graubard 1999, "Analysis of health surveys", and `svyciprop(method="logit")` of R's
    package survey. For differences, which may be negative, there is `mean_interval`.

    Args:
        values: (n,) numbers in 0..1, one per replicate.
        overlap: as in `mean_interval`.

    Raises:
        SynthGainError: as `mean_interval`, or with a value outside 0..1.
    """
    array = _checked(values)
    if array.min() < 0 or array.max() > 1:
        raise SynthGainError(f"share_interval: found {array.tolist()}; every value must lie in 0..1")
    plain = mean_interval(array, overlap=overlap)
    if plain.high is None or plain.high == plain.low:
        return plain
    middle = scipy.special.logit(plain.mean)
    half_width = (plain.high - plain.mean) / (plain.mean * (1 - plain.mean))
    low, high = scipy.special.expit([middle - half_width, middle + half_width])
    return MeanInterval(plain.n, plain.mean, float(low), float(high))


def variance_of_mean(n: int, overlap: float) -> float:
    """The variance of a mean of n replicates in units of s²: 1/n + o/(1−o); with an overlap of 1, 1/n (see the module).

    Raises:
        SynthGainError: if the overlap is outside 0..1.
    """
    if not 0 <= overlap <= 1:
        raise SynthGainError(f"overlap of replicates: found {overlap}; a share in 0..1 is needed")
    return 1 / n + (overlap / (1 - overlap) if overlap < 1 else 0.0)


def paired_difference(*, baseline: Values, candidate: Values, overlap: float = 0.0) -> MeanInterval:
    """Mean of candidate − baseline over replicates, with the interval of the paired t-test.

    `mean_interval` of d_i = candidate_i − baseline_i. What the two arms of a replicate share
    (real subset, classifier initialisation, batch order) cancels in d_i, so the interval is narrower than the
    arms' own intervals suggest: two arms whose intervals overlap may still differ.

    Args:
        baseline: (n,) one value per replicate.
        candidate: (n,) the same replicates in the same order.
        overlap: as in `mean_interval`.

    Raises:
        SynthGainError: if the lengths differ, or as `mean_interval`.
    """
    return mean_interval(_differences(baseline, candidate), overlap=overlap)


def paired_test(*, baseline: Values, candidate: Values, overlap: float = 0.0) -> PairedTest:
    """Everything about the difference of two arms: interval, p-values, and what the design can detect.

    Args:
        baseline: (n,) one value per replicate.
        candidate: (n,) the same replicates in the same order.
        overlap: as in `mean_interval`.

    Raises:
        SynthGainError: as `paired_difference`.
    """
    differences = _checked(_differences(baseline, candidate))
    difference = mean_interval(differences, overlap=overlap)
    spread = _standard_deviation(differences)
    return PairedTest(
        difference=difference,
        standard_deviation=spread,
        p=None if spread is None else _t_test_p(difference.mean, spread, difference.n, overlap),
        p_sign_flip=sign_flip_p(differences),
        improvement=probability_of_improvement(differences),
        detectable=None if spread is None else detectable_effect(spread, difference.n, overlap=overlap),
        replicates_to_settle=(
            None if spread is None else replicates_to_settle(difference.mean, spread, overlap=overlap)
        ),
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


def detectable_effect(standard_deviation: float, n: int, *, overlap: float = 0.0) -> Detectable:
    """The true mean difference that the paired t-test on n replicates finds with a power of `POWER`.

    Args:
        standard_deviation: of the paired differences, above 0.
        n: how many replicates, at least 2.
        overlap: as in `mean_interval`.

    Raises:
        SynthGainError: if there is no spread, or one replicate.
    """
    _require_spread(standard_deviation, n)
    return _with_spread(
        _detectable_size(n) * math.sqrt(n * variance_of_mean(n, overlap)) * standard_deviation, n
    )


def detectable_effect_on_both(
    validation: Values, test: Values, *, overlap: float = 0.0, draws: int = 50_000
) -> Detectable:
    """The true difference whose intervals lie above 0 on validation *and* on test with a power of `POWER`.

    The verdict "gain" asks for both. Each draw is a study: the error of its two means, and its two spreads, of a
    bivariate normal distribution with the covariance of the replicates at hand (spreads by Bartlett's decomposition
    of a Wishart matrix, 1933). It finds every effect above a limit of its own; the result is the limit that `POWER` of
    them keep. 50,000 draws, always the same ones, know it to half a percent.

    Args:
        validation, test: (n,) paired differences of the same n ≥ 2 replicates, neither all alike.
        overlap: as in `mean_interval`.
        draws: see above.

    Raises:
        SynthGainError: if there is no spread, or one replicate.
    """
    differences = np.stack([_checked(validation), _checked(test)])
    n = differences.shape[1]
    spreads: list[float] = [_standard_deviation(values) or 0.0 for values in differences]
    for spread in spreads:
        _require_spread(spread, n)
    r = float(np.clip(np.corrcoef(*differences).ravel()[1], -1, 1))
    rest = math.sqrt(1 - r * r)
    rng = np.random.default_rng(0)
    one, other, across = (rng.standard_normal(draws) for _ in range(3))
    errors = np.stack([one, r * one + rest * other])
    first, second = (np.sqrt(2 * rng.gamma(freedom / 2, size=draws)) for freedom in (n - 1, n - 2))  # χ
    seen = np.stack([first, np.hypot(r * first + rest * across, rest * second)]) / math.sqrt(n - 1)
    limits = np.array(spreads).reshape(2, 1) * (_critical(n) * seen - errors)
    effect = float(np.quantile(limits.max(axis=0), POWER)) * math.sqrt(variance_of_mean(n, overlap))
    return _with_spread(effect, n)


def replicates_to_settle(difference: float, standard_deviation: float, *, overlap: float = 0.0) -> int | None:
    """The smallest number of replicates whose paired t-test finds this difference with a power of `POWER`.

    It takes the observed difference and spread for the true ones: with few replicates both are rough guesses.

    Returns:
        None without a difference, or where more than `MOST_REPLICATES` would be needed.
    """
    if difference == 0 or standard_deviation <= 0:
        return None
    size = abs(difference) / standard_deviation
    low, high = 1, 2  # too few, perhaps enough
    while t_test_power(size, high, overlap) < POWER:
        low, high = high, 2 * high
        if low > MOST_REPLICATES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if t_test_power(size, middle, overlap) >= POWER else (middle, high)
    return high if high <= MOST_REPLICATES else None


def t_test_power(effect_size: float, n: int, overlap: float = 0.0) -> float:
    """How often the two-sided paired t-test at level 1 − `CONFIDENCE` finds a true difference.

    Args:
        effect_size: the true mean difference, at least 0, in standard deviations of the differences.
        n: how many replicates, at least 2.
        overlap: as in `mean_interval`.
    """
    critical = _critical(n)
    shift = effect_size / math.sqrt(variance_of_mean(n, overlap))
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


@functools.cache
def _detectable_size(n: int) -> float:
    """The effect, in standard deviations, that n replicates without overlap find with a power of `POWER`."""
    return float(scipy.optimize.brentq(lambda size: t_test_power(size, n) - POWER, 1e-9, 100.0))


def _critical(n: int) -> float:
    """How many standard errors Student's interval of n values reaches to either side."""
    return float(scipy.special.stdtrit(n - 1, (1 + CONFIDENCE) / 2))


def _t_test_p(mean: float, spread: float, n: int, overlap: float) -> float:
    statistic = abs(mean) / (spread * math.sqrt(variance_of_mean(n, overlap)))
    return float(2 * scipy.special.stdtr(n - 1, -statistic))


def _with_spread(effect: float, n: int) -> Detectable:
    """An effect in proportion to a standard deviation, with the ends of its interval: (n−1)·s²/σ² is χ² distributed."""
    tail = (1 - CONFIDENCE) / 2
    low, high = (math.sqrt((n - 1) / scipy.special.chdtri(n - 1, level)) for level in (tail, 1 - tail))
    return Detectable(effect, low * effect, high * effect)


def _require_spread(standard_deviation: float, n: int) -> None:
    if n < 2 or standard_deviation <= 0:
        raise SynthGainError(
            f"detectable_effect: found n {n}, standard deviation {standard_deviation};"
            " at least 2 and above 0 are needed"
        )


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
