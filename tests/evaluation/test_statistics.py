"""Intervals agree with scipy's t-test, cover at their nominal rate, and behave under the obvious changes."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.errors import SynthGainError
from pipeline.evaluation.statistics import CONFIDENCE, mean_interval, paired_difference

accuracies = st.floats(0.0, 1.0, allow_nan=False)
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


def test_by_hand():
    # Mean 2, standard deviation 1, three values: 2 ± 4.302653 / √3.
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.n == 3
    assert (found.low, found.mean, found.high) == pytest.approx((-0.484138, 2.0, 4.484138), abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_covers_the_truth_at_the_nominal_rate(n):
    rng = np.random.default_rng(n)
    trials = 2000
    hits = sum(
        interval.low <= 0.97 <= interval.high
        for interval in (mean_interval(rng.normal(0.97, 0.004, n)) for _ in range(trials))
    )
    four_standard_errors = 4 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / trials)
    assert abs(hits / trials - CONFIDENCE) < four_standard_errors


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
