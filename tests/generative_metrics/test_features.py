"""Feature statistics: moments, and refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.features import (
    Extractor,
    FeatureStatistics,
    checked_pair,
    statistics_from_features,
)

DOMAIN = Extractor("domain", "ab" * 32)

tables = hnp.arrays(
    np.float32,
    st.tuples(st.integers(2, 30), st.integers(1, 6)),
    elements=st.floats(-1000, 1000, width=32),
)


@given(tables)
def test_moments_agree_with_numpy(features):
    statistics = statistics_from_features(features, extractor=DOMAIN)
    assert statistics.n == len(features)
    assert statistics.mean.dtype == statistics.covariance.dtype == np.float64
    np.testing.assert_allclose(statistics.mean, features.astype(np.float64).mean(0), rtol=1e-12, atol=1e-9)
    expected = np.cov(features.astype(np.float64), rowvar=False, ddof=1).reshape(statistics.covariance.shape)
    np.testing.assert_allclose(statistics.covariance, expected, rtol=1e-9, atol=1e-7)
    np.testing.assert_array_equal(statistics.covariance, statistics.covariance.T)


def test_a_large_offset_costs_no_digits():
    features = np.random.default_rng(0).normal(size=(500, 4))
    shifted = statistics_from_features(features + 1e6, extractor=DOMAIN)
    np.testing.assert_allclose(
        shifted.covariance,
        statistics_from_features(features, extractor=DOMAIN).covariance,
        rtol=1e-6,
        atol=1e-8,
    )


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((1, 3)), r"found n = 1; a covariance needs at least 2 images"),
        (np.zeros((0, 3)), r"found shape \(0, 3\); \(N, D\) is needed"),
        (np.zeros(3), r"found shape \(3,\); \(N, D\) is needed"),
        (np.array([[1.0], [np.nan]]), "infinite or undefined values"),
        (np.array([[1.0], [np.inf]]), "infinite or undefined values"),
    ],
)
def test_refuses_what_has_no_moments(features, message):
    with pytest.raises(SynthGainError, match=message):
        statistics_from_features(features, extractor=DOMAIN)


def test_refuses_a_pair_of_different_sizes():
    with pytest.raises(SynthGainError, match="feature sizes differ: 3 for real, 4 for synthetic"):
        checked_pair(np.zeros((5, 3)), np.zeros((5, 4)))


def test_refuses_moments_that_do_not_fit_together():
    with pytest.raises(SynthGainError, match=r"found mean \(3,\), covariance \(2, 2\)"):
        FeatureStatistics(5, np.zeros(3), np.eye(2), DOMAIN)
