"""The kernel distance: its definition by loops, torchmetrics, and invariance to order and blocks."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SynthGainError
from pipeline.generative_metrics import kid
from pipeline.generative_metrics.kid import kernel_distance


def features(seed: int, n: int = 40, size: int = 6, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, size)) + shift


def by_loops(real: np.ndarray, synthetic: np.ndarray) -> float:
    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    def within(x):
        values = [kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]
        return sum(values) / len(values)

    between = [kernel(x, y) for x in real for y in synthetic]
    return within(real) + within(synthetic) - 2 * sum(between) / len(between)


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 9))
def test_is_its_definition(seed, n, m):
    real, synthetic = features(seed, n), features(seed + 1, m)
    assert kernel_distance(real=real, synthetic=synthetic) == pytest.approx(
        by_loops(real, synthetic), abs=1e-9
    )


def test_agrees_with_torchmetrics():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn
        from torchmetrics.image.kid import poly_mmd

        real, synthetic = features(1, 300, 16), features(2, 300, 16, shift=0.3)
        expected = float(poly_mmd(torch.from_numpy(real), torch.from_numpy(synthetic)))
    assert kernel_distance(real=real, synthetic=synthetic) == pytest.approx(expected, rel=1e-9)


def test_agrees_with_torch_fidelity():
    from torch_fidelity.metric_kid import kid_features_to_metric

    # One subset of all images is the estimate over all of them.
    real, synthetic = features(1, 300, 16), features(2, 300, 16, shift=0.3)
    expected = kid_features_to_metric(
        torch.from_numpy(synthetic),
        torch.from_numpy(real),
        kid_subsets=1,
        kid_subset_size=300,
        verbose=False,
    )["kernel_inception_distance_mean"]
    assert kernel_distance(real=real, synthetic=synthetic) == pytest.approx(expected, rel=1e-9)


def test_neither_order_nor_blocks_change_the_value(monkeypatch):
    real, synthetic = features(3, 90), features(4, 70, shift=0.2)
    value = kernel_distance(real=real, synthetic=synthetic)
    rng = np.random.default_rng(0)
    permuted = kernel_distance(real=rng.permutation(real), synthetic=rng.permutation(synthetic))
    assert permuted == pytest.approx(value, rel=1e-11)
    for values_at_a_time in (1, 100, 1000):
        monkeypatch.setattr(kid, "_KERNEL_VALUES", values_at_a_time)
        assert kernel_distance(real=real, synthetic=synthetic) == pytest.approx(value, rel=1e-11)


def test_is_unbiased():
    # The same distribution: the mean over repetitions is 0 within its standard error, values of both signs.
    values = [kernel_distance(real=features(2 * i), synthetic=features(2 * i + 1)) for i in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0 < max(values)


def test_grows_with_the_distance():
    near, far = (kernel_distance(real=features(1), synthetic=features(2, shift=s)) for s in (0.5, 1.0))
    assert 0 < near < far


def test_does_not_overwrite_its_input():
    real = features(1)
    before = real.copy()
    kernel_distance(real=real, synthetic=real)
    np.testing.assert_array_equal(real, before)


def test_one_image_is_refused():
    with pytest.raises(SynthGainError, match="found 1 real and 40 synthetic images; at least 2"):
        kernel_distance(real=features(1, 1), synthetic=features(2))
