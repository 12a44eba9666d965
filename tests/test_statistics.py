"""Agreement with scipy and statsmodels, coverage by simulation, planted effects found and absent ones not."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from pipeline.errors import SynthGainError
from pipeline.statistics import (
    CONFIDENCE,
    MOST_FOR_SIGN_FLIPS,
    POWER,
    detectable_effect,
    detectable_effect_on_both,
    holm,
    interval_ends,
    mean_interval,
    paired_difference,
    paired_test,
    probability_of_improvement,
    replicates_to_settle,
    sampling_error,
    share_interval,
    sign_flip_p,
    t_test_power,
)

accuracies = st.floats(0.0, 1.0).map(lambda value: round(value, 12))  # SciPy overflows at a mean of 1e-309
pairs = st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=12)


def spread_out(values) -> bool:
    """Far enough from constant that scipy's own test does not warn of lost precision."""
    return np.ptp(values) > 1e-6


@given(pairs)
def test_paired_difference_is_scipys_paired_t_test(values):
    baseline, candidate = np.array(values).T
    assume(spread_out(candidate - baseline))
    found = paired_difference(baseline=baseline, candidate=candidate)
    expected = scipy.stats.ttest_rel(candidate, baseline).confidence_interval(CONFIDENCE)
    assert found.mean == pytest.approx(np.mean(candidate - baseline))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@given(st.lists(accuracies, min_size=2, max_size=12))
def test_mean_interval_is_scipys_one_sample_t_test(values):
    assume(spread_out(values))
    found = mean_interval(values)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(CONFIDENCE)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.4, 0.9])
@pytest.mark.parametrize("n", [3, 10])
def test_replicates_that_correlate_by_their_overlap_are_covered_exactly(overlap, n):
    """The formula is exact where the images alone make replicates differ; without it, coverage falls to 25 %."""
    rng = np.random.default_rng(n)
    shared = np.sqrt(overlap) * rng.standard_normal((4000, 1))
    values = shared + np.sqrt(1 - overlap) * rng.standard_normal((4000, n))
    low, high = interval_ends(values, overlap=overlap)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(CONFIDENCE, abs=0.012)


@given(st.lists(accuracies, min_size=2, max_size=12), st.floats(0, 0.999), st.floats(0, 0.999))
def test_more_overlap_makes_an_interval_wider_and_never_narrower(values, one, other):
    plain, less, more = (mean_interval(values, overlap=o) for o in (0.0, *sorted((one, other))))
    assert more.high - more.low >= (less.high - less.low) * (1 - 1e-12)
    assert less.high - less.low >= (plain.high - plain.low) * (1 - 1e-12)
    assert more.mean == less.mean == plain.mean
    # All images in common: the spread tells of seeds alone, and the interval is plain.
    assert mean_interval(values, overlap=1.0) == plain


@given(pairs, st.floats(0, 0.99))
def test_p_interval_and_power_have_the_same_overlap(values, overlap):
    baseline, candidate = np.array(values).T
    assume(spread_out(candidate - baseline))
    found = paired_test(baseline=baseline, candidate=candidate, overlap=overlap)
    outside = found.difference.low > 0 or found.difference.high < 0
    assert outside == (found.p < 1 - CONFIDENCE) or found.p == pytest.approx(1 - CONFIDENCE)
    power = t_test_power(found.detectable.effect / found.standard_deviation, len(values), overlap)
    assert power == pytest.approx(POWER, abs=1e-3)


@pytest.mark.parametrize("overlap", [-0.1, 1.1])
def test_an_overlap_is_a_share(overlap):
    with pytest.raises(SynthGainError, match="a share in 0"):
        mean_interval([0.1, 0.2], overlap=overlap)


@given(st.lists(accuracies, min_size=2, max_size=12), st.floats(0, 0.9))
def test_the_interval_of_a_share_is_possible_and_holds_the_mean(values, overlap):
    found = share_interval(values, overlap=overlap)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found.mean == mean_interval(values).mean  # the arithmetic one
    mirrored = share_interval([1 - value for value in values], overlap=overlap)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-6)


def test_the_interval_of_a_share_by_hand():
    # The mean is 0.9525, its standard error 0.0073545: logit 2.99836 ± 12.7062 · 0.0073545 / 0.0452438.
    found = share_interval([0.9525 - 0.0073545, 0.9525 + 0.0073545])
    assert (found.low, found.high) == pytest.approx((0.717670, 0.993718), abs=1e-5)
    assert mean_interval([0.9525 - 0.0073545, 0.9525 + 0.0073545]).high > 1.04  # what was published


def test_far_from_the_ends_the_interval_of_a_share_is_students():
    values = [0.5001, 0.4999, 0.5002]
    plain, found = mean_interval(values), share_interval(values)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=1e-9)


def test_intervals_of_shares_near_one_cover_as_often_as_promised():
    rng = np.random.default_rng(0)
    values = rng.beta(97, 3, (4000, 5))
    found = [share_interval(row) for row in values]
    assert np.mean([one.low <= 0.97 <= one.high for one in found]) == pytest.approx(CONFIDENCE, abs=0.015)


def test_what_is_no_share_is_refused():
    with pytest.raises(SynthGainError, match="share_interval: found"):
        share_interval([0.9, 1.1])


def test_by_hand():
    # Mean 2, standard deviation 1, three values: 2 ± 4.302653 / √3.
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.n == 3
    assert (found.low, found.mean, found.high) == pytest.approx((-0.484138, 2.0, 4.484138), abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_paired_interval_covers_the_true_difference_at_the_nominal_rate(n):
    """Replicates differ far more than arms do, as in a study; 4000 trials have a standard error of 0.3 %."""
    rng = np.random.default_rng(n)
    trials = 4000
    subset = rng.normal(0.95, 0.02, (trials, n))
    baseline = subset + rng.normal(0, 0.002, (trials, n))
    candidate = subset + 0.003 + rng.normal(0, 0.003, (trials, n))
    intervals = [
        paired_difference(baseline=before, candidate=after)
        for before, after in zip(baseline, candidate, strict=True)
    ]
    coverage = np.mean([interval.low <= 0.003 <= interval.high for interval in intervals])
    assert 0.93 <= coverage <= 0.97


def test_accuracies_of_a_finite_test_split_are_covered_too():
    """Binomial and skewed near 100 %, as accuracies are: the t-interval still holds what it promises."""
    rng = np.random.default_rng(0)
    images, truth = 10_000, (0.985, 0.988)
    before, after = (rng.binomial(images, p, (4000, 5)) / images for p in truth)
    intervals = [paired_difference(baseline=b, candidate=a) for b, a in zip(before, after, strict=True)]
    coverage = np.mean([interval.low <= truth[1] - truth[0] <= interval.high for interval in intervals])
    assert 0.93 <= coverage <= 0.97


def test_pairing_finds_a_planted_effect_that_the_spread_of_replicates_hides():
    rng = np.random.default_rng(0)
    replicate_effect = rng.normal(0.95, 0.02, 5)
    baseline = replicate_effect + rng.normal(0, 0.001, 5)
    candidate = replicate_effect + 0.005 + rng.normal(0, 0.001, 5)
    found = paired_difference(baseline=baseline, candidate=candidate)
    assert 0 < found.low < 0.005 < found.high
    assert mean_interval(baseline).high > mean_interval(candidate).low  # unpaired, it would not show


def test_no_effect_is_found_no_more_often_than_promised():
    rng = np.random.default_rng(1)
    trials = 2000
    found = [
        paired_difference(baseline=rng.normal(0.95, 0.01, 3), candidate=rng.normal(0.95, 0.01, 3))
        for _ in range(trials)
    ]
    false_gains = sum(interval.low > 0 for interval in found) / trials
    assert false_gains == pytest.approx((1 - CONFIDENCE) / 2, abs=0.015)


@given(pairs, st.floats(-1, 1), st.randoms(use_true_random=False))
def test_invariances_of_a_paired_difference(values, shift, random):
    baseline, candidate = np.array(values).T
    found = paired_difference(baseline=baseline, candidate=candidate)

    swapped = paired_difference(baseline=candidate, candidate=baseline)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low), abs=1e-9)

    shifted = paired_difference(baseline=baseline + shift, candidate=candidate + shift)
    assert (shifted.low, shifted.high) == pytest.approx((found.low, found.high), abs=1e-9)

    in_points = paired_difference(baseline=100 * baseline, candidate=100 * candidate)
    assert (in_points.low, in_points.high) == pytest.approx((100 * found.low, 100 * found.high), abs=1e-7)

    shuffled = list(values)
    random.shuffle(shuffled)
    baseline, candidate = np.array(shuffled).T
    reordered = paired_difference(baseline=baseline, candidate=candidate)
    assert (reordered.low, reordered.high) == pytest.approx((found.low, found.high), abs=1e-9)


def test_the_power_is_that_of_statsmodels():
    reference = TTestPower()
    for n in (2, 3, 5, 10, 40):
        for effect in (0.0, 0.1, 0.5, 1.0, 2.0):
            if np.isfinite(expected := reference.power(effect, n, 1 - CONFIDENCE)):
                assert t_test_power(effect, n) == pytest.approx(expected, abs=1e-9), (n, effect)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_minimum_detectable_effect_is_found_as_often_as_promised(n):
    """A planted effect of just that size, by simulation; n = 2 is beyond what statsmodels can compute."""
    rng = np.random.default_rng(n)
    effect = detectable_effect(0.004, n).effect
    differences = rng.normal(effect, 0.004, (4000, n))
    p = scipy.stats.ttest_1samp(differences, 0, axis=1).pvalue
    assert np.mean(p < 1 - CONFIDENCE) == pytest.approx(POWER, abs=0.025)


@pytest.mark.parametrize(("n", "shared"), [(3, 0.0), (4, 0.5), (5, 0.9), (10, 0.5)])
def test_the_effect_of_the_rule_is_found_on_both_splits_as_often_as_promised(n, shared):
    """A planted effect of just that size; two splits of different spread that see a part of the same luck."""
    rng = np.random.default_rng(n)
    covariance = np.array([[4.0, 6.0 * shared], [6.0 * shared, 9.0]]) * 1e-6
    exact = np.linalg.qr(rng.standard_normal((n, 3)) @ np.diag([1, 1, 1]) if n > 3 else np.eye(n))[0][:, :2]
    exact = np.linalg.qr(np.column_stack([np.ones(n), exact]))[0][:, 1:3]  # mean 0, uncorrelated
    at_hand = np.sqrt(n - 1) * exact @ np.linalg.cholesky(covariance).T
    assert np.cov(at_hand.T) == pytest.approx(covariance)
    found = detectable_effect_on_both(*at_hand.T)
    studies = rng.multivariate_normal([found.effect] * 2, covariance, (4000, n))
    p = scipy.stats.ttest_1samp(studies, 0, axis=1, alternative="greater").pvalue
    assert np.mean((p < (1 - CONFIDENCE) / 2).all(axis=1)) == pytest.approx(POWER, abs=0.02)
    assert found.effect > detectable_effect(0.003, n).effect  # of the split that knows less, alone
    assert found.low < found.effect < found.high


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_of_a_detectable_effect_holds_that_of_the_true_spread(n):
    rng = np.random.default_rng(n)
    truth = detectable_effect(1.0, n).effect
    ends = detectable_effect(1.0, n)  # of a spread of 1: both ends are in proportion to it
    spreads = rng.standard_normal((4000, n)).std(axis=1, ddof=1)
    held = (spreads * ends.low <= truth) & (truth <= spreads * ends.high)
    assert held.mean() == pytest.approx(CONFIDENCE, abs=0.012)


def test_the_table_of_research_is_met():
    """Standard deviation, replicates to find 0.3 points, minimum detectable effect: research/methods.md §7."""
    assert [replicates_to_settle(0.3, spread) for spread in (0.1, 0.2, 0.3, 0.4, 0.5)] == [4, 6, 10, 16, 24]


@given(st.floats(0.05, 5), st.floats(0.1, 10))
def test_replicates_to_settle_are_just_enough(effect, spread):
    n = replicates_to_settle(-effect * spread, spread)
    assert t_test_power(effect, n) >= POWER
    assert n == 2 or t_test_power(effect, n - 1) < POWER
    assert detectable_effect(spread, n).effect <= effect * spread * (1 + 1e-6)


def test_what_no_number_of_replicates_would_settle_has_none():
    assert replicates_to_settle(0.0, 1.0) is None
    assert replicates_to_settle(1e-4, 1.0) is None
    with pytest.raises(SynthGainError, match="at least 2 and above 0"):
        detectable_effect(0.0, 5)


@pytest.mark.parametrize("size", [1, 2, 8, 40])
def test_holm_is_statsmodels(size):
    rng = np.random.default_rng(0)
    p_values = (rng.random(size) ** 3).round(2).tolist()  # some small, some equal
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_holm_counts_a_comparison_without_a_p_value():
    assert holm([0.01, None, 0.04]) == pytest.approx([0.03, None, 0.08])


@given(
    st.lists(st.integers(-1000, 1000).map(float), min_size=2, max_size=9)
)  # their sums are exact, and so are ties
def test_sign_flips_are_scipys_permutation_test(differences):
    assume(spread_out(differences))
    expected = scipy.stats.permutation_test(
        (differences,),
        lambda x, axis: np.abs(np.mean(x, axis=axis)),
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
    )
    assert sign_flip_p(differences) == pytest.approx(expected.pvalue, abs=2 / 2 ** len(differences) * 1e-3)


def test_sign_flips_by_hand():
    assert sign_flip_p([0.1, 0.2, 0.3]) == 2 / 8  # all positive: of eight, only all flipped goes as far
    assert sign_flip_p([1.0, -1.0]) == 1.0
    assert sign_flip_p([0.1]) is None
    assert sign_flip_p([0.1] * MOST_FOR_SIGN_FLIPS) == 2 / 4096
    assert sign_flip_p([0.1] * (MOST_FOR_SIGN_FLIPS + 1)) is None


def test_the_probability_of_improvement_counts_replicates_and_halves():
    assert probability_of_improvement([0.1, 0.1, -0.1, 0.0]).mean == 2.5 / 4
    agreed = probability_of_improvement([0.1, 0.2, 0.3])
    assert (agreed.mean, agreed.low, agreed.high) == (1.0, None, None)


def test_the_bootstrap_interval_is_what_resampling_gives():
    differences = np.array([0.1, 0.2, -0.1, 0.0, 0.3, -0.2, 0.4, 0.1])
    found = probability_of_improvement(differences)
    rng = np.random.default_rng(0)
    better = (1 + np.sign(differences)) / 2
    shares = better[rng.integers(0, 8, (100_000, 8))].mean(axis=1)
    assert (found.low, found.high) == pytest.approx(np.quantile(shares, [0.025, 0.975]), abs=1e-9)


def test_a_planted_effect_is_found_by_every_test_and_no_effect_by_none():
    rng = np.random.default_rng(3)
    subset = rng.normal(0.95, 0.02, 10)
    noise = rng.normal(0, 0.002, (2, 10))
    planted = paired_test(baseline=subset + noise[0], candidate=subset + 0.01 + noise[1])
    assert planted.difference.low > 0 and planted.p < 0.001 and planted.p_sign_flip < 0.01
    assert planted.improvement.mean == 1.0
    assert planted.detectable.effect < 0.01 and planted.replicates_to_settle <= 5
    absent = paired_test(baseline=subset + noise[0], candidate=subset + noise[1])
    assert absent.difference.low < 0 < absent.difference.high
    assert absent.p > 0.05 and absent.p_sign_flip > 0.05
    assert absent.replicates_to_settle > 10


@given(pairs)
def test_p_and_interval_agree_on_what_is_found(values):
    baseline, candidate = np.array(values).T
    assume(spread_out(candidate - baseline))
    found = paired_test(baseline=baseline, candidate=candidate)
    expected = scipy.stats.ttest_rel(candidate, baseline)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    outside = found.difference.low > 0 or found.difference.high < 0
    assert outside == (found.p < 1 - CONFIDENCE) or found.p == pytest.approx(1 - CONFIDENCE)


def test_without_spread_nothing_is_told():
    for differences in ([0.0], [0.01, 0.01, 0.01]):
        found = paired_test(baseline=np.zeros(len(differences)), candidate=differences)
        assert (found.p, found.standard_deviation, found.detectable) == (None, None, None)
        assert found.replicates_to_settle is None


def test_the_sampling_error_is_the_binomial_one():
    # In points, of 10 000 images: research/methods.md §7.
    errors = [100 * sampling_error(p, 10_000) for p in (0.90, 0.95, 0.97, 0.98, 0.99)]
    assert errors == pytest.approx([0.30, 0.22, 0.17, 0.14, 0.10], abs=0.005)


@given(accuracies, st.integers(2, 6))
def test_no_spread_is_an_interval_of_no_width(value, n):
    found = mean_interval([value] * n)
    assert found.low == found.mean == found.high == value


def test_one_value_has_no_interval():
    found = mean_interval([0.97])
    assert (found.n, found.mean, found.low, found.high) == (1, 0.97, None, None)


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(SynthGainError, match="n ≥ 1"):
        mean_interval([])
    with pytest.raises(SynthGainError, match="finite"):
        mean_interval([0.9, float("nan")])
    with pytest.raises(SynthGainError, match="2 baseline and 3 candidate"):
        paired_difference(baseline=[0.1, 0.2], candidate=[0.1, 0.2, 0.3])
