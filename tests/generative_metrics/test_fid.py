"""The Fréchet distance: closed forms, symmetry, invariance, and torchmetrics on the same features."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.features import Extractor, FeatureStatistics, statistics_from_features
from pipeline.generative_metrics.fid import Fid, fid, fid_floor

DOMAIN = Extractor("domain", "ab" * 32)

seeds = st.integers(0, 2**32 - 1)


def features(seed: int, n: int = 60, size: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)


def statistics(values: np.ndarray, extractor: Extractor = DOMAIN) -> FeatureStatistics:
    return statistics_from_features(values, extractor=extractor)


def moments(mean: np.ndarray, covariance: np.ndarray, n: int = 10) -> FeatureStatistics:
    return FeatureStatistics(n, mean, covariance, DOMAIN)


def between(real: FeatureStatistics, synthetic: FeatureStatistics) -> float:
    # A floor's value is a distance like any other.
    value = fid_floor(real=real, other_real=synthetic).value
    assert fid(synthetic=synthetic, floor=fid_floor(real=real, other_real=synthetic)).value == value
    return value


def distance(real: np.ndarray, synthetic: np.ndarray) -> float:
    return between(statistics(real), statistics(synthetic))


@given(seeds)
def test_a_set_has_no_distance_to_itself(seed):
    x = features(seed)
    assert 0 <= distance(x, x) < 1e-12 * np.trace(np.cov(x.T))


@given(seeds, st.floats(0, 100))
def test_equal_covariances_leave_the_squared_distance_of_the_means(seed, length):
    x = features(seed)
    shift = np.full(x.shape[1], length)
    assert distance(x, x + shift) == pytest.approx(float(shift @ shift), rel=1e-9, abs=1e-9)


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=8))
def test_diagonal_covariances_have_a_closed_form(variances):
    left, right = (np.array(side) for side in zip(*variances, strict=True))
    real, synthetic = (moments(np.zeros(len(left)), np.diag(side)) for side in (left, right))
    expected = np.square(np.sqrt(left) - np.sqrt(right)).sum()
    assert between(real, synthetic) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(seeds, seeds)
def test_real_and_synthetic_may_change_places(seed, other):
    assert distance(features(seed), features(other)) == pytest.approx(
        distance(features(other), features(seed)), rel=1e-9
    )


@given(seeds)
def test_the_order_of_the_images_does_not_matter(seed):
    x, y = features(seed), features(seed + 1)
    permuted = np.random.default_rng(seed).permutation(x)
    assert distance(permuted, y) == pytest.approx(distance(x, y), rel=1e-10)


def test_rotating_both_sets_changes_nothing():
    x, y = features(1), features(2)
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0]
    assert distance(x @ rotation, y @ rotation) == pytest.approx(distance(x, y), rel=1e-10)


def test_singular_covariances_are_exact_and_silent():
    # Three images in eight features: rank 2. The same three, moved, are |shift|² away.
    x = features(4, n=3)
    assert distance(x, x) < 1e-12 * np.trace(np.cov(x.T))
    assert distance(x, x + 2.0) == pytest.approx(32.0, rel=1e-9)
    # Two rank-1 covariances in orthogonal directions share nothing: the distance is the sum of their traces.
    first, second = np.diag([4.0, 0.0]), np.diag([0.0, 9.0])
    apart = between(moments(np.zeros(2), first), moments(np.zeros(2), second))
    assert apart == pytest.approx(13.0, rel=1e-12)


def test_different_sizes_are_one_clear_line():
    with pytest.raises(SynthGainError, match="feature sizes differ: 8 for real, 5 for synthetic"):
        distance(features(1), features(1, size=5))


def test_one_image_is_refused():
    with pytest.raises(SynthGainError, match="n = 1"):
        distance(features(1, n=1), features(1))


def test_a_value_comes_with_n_floor_and_extractor_or_not_at_all():
    real, other, synthetic = (statistics(features(seed)) for seed in (1, 2, 3))
    floor = fid_floor(real=real, other_real=other)
    assert fid(synthetic=synthetic, floor=floor) == Fid(
        value=between(real, synthetic), floor=between(real, other), n=60, extractor=DOMAIN
    )
    with pytest.raises(TypeError, match="floor"):
        fid(synthetic=synthetic)


def test_a_floor_of_another_n_is_refused():
    floor = fid_floor(real=statistics(features(1)), other_real=statistics(features(2, n=59)))
    with pytest.raises(SynthGainError, match="found 60 synthetic images and a floor of 59"):
        fid(synthetic=statistics(features(3)), floor=floor)


@pytest.mark.parametrize("other", [Extractor("inception", "ab" * 32), Extractor("domain", "cd" * 32)])
def test_features_of_two_extractors_are_never_compared(other):
    floor = fid_floor(real=statistics(features(1)), other_real=statistics(features(2)))
    with pytest.raises(
        SynthGainError, match=r"two extractors: domain abababababab for real, .* for synthetic"
    ):
        fid(synthetic=statistics(features(3), other), floor=floor)
    with pytest.raises(SynthGainError, match="two extractors"):
        fid_floor(real=statistics(features(1)), other_real=statistics(features(2), other))


@pytest.mark.parametrize("n", [400, 30])
def test_agrees_with_torchmetrics(n):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn
        from torchmetrics.image.fid import FrechetInceptionDistance

        class Identity(torch.nn.Module):
            num_features = 16

            def forward(self, x):
                return x

        metric = FrechetInceptionDistance(feature=Identity())
        x, y = features(5, n=n, size=16), features(6, n=n, size=16)
        metric.update(torch.from_numpy(x), real=True)
        metric.update(torch.from_numpy(y), real=False)
        expected = float(metric.compute())
    assert distance(x, y) == pytest.approx(expected, rel=1e-5)


def test_agrees_with_torch_fidelity():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    x, y = features(7, n=400, size=16), features(8, n=400, size=16)
    both = [fid_features_to_statistics(torch.from_numpy(side)) for side in (x, y)]
    expected = fid_statistics_to_metric(*both, verbose=False)["frechet_inception_distance"]
    assert distance(x, y) == pytest.approx(expected, rel=1e-5)
