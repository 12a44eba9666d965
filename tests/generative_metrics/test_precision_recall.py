"""Precision, recall, density, coverage: the formulas by brute force, and scenarios with a known answer."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SynthGainError
from pipeline.generative_metrics import precision_recall as manifold
from pipeline.generative_metrics.precision_recall import ManifoldMetrics, manifold_metrics


def normal(seed: int, n: int = 500, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, size))


def brute_force(real: np.ndarray, synthetic: np.ndarray, k: int) -> ManifoldMetrics:
    """Naeem et al. 2020, equations 1 to 4, image by image."""

    def distances(x, y):
        return np.sqrt(np.square(x[:, None] - y[None]).sum(-1))

    def radii(x):
        return np.sort(distances(x, x), axis=1)[:, k]

    between = distances(real, synthetic)
    in_real = between < radii(real)[:, None]
    in_synthetic = between < radii(synthetic)[None]
    return ManifoldMetrics(
        precision=np.mean([in_real[:, j].any() for j in range(len(synthetic))]),
        recall=np.mean([in_synthetic[i].any() for i in range(len(real))]),
        density=in_real.sum() / (k * len(synthetic)),
        coverage=np.mean([in_real[i].any() for i in range(len(real))]),
    )


@given(st.integers(0, 10_000), st.integers(7, 40), st.integers(7, 40), st.integers(1, 6))
def test_is_its_definition(seed, n, m, k):
    real, synthetic = normal(seed, n, 3), 1.3 * normal(seed + 1, m, 3) + 0.2
    metrics = manifold_metrics(real=real, synthetic=synthetic, neighbors=k)
    expected = brute_force(real, synthetic, k)
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(metrics, name) == pytest.approx(getattr(expected, name), abs=1e-12), name


@pytest.mark.parametrize("neighbors", [3, 5])
def test_precision_and_recall_agree_with_torch_fidelity(neighbors):
    from torch_fidelity.metric_prc import prc_features_to_metric

    real, synthetic = normal(1, 400, 6), 1.2 * normal(2, 300, 6) + 0.3
    expected = prc_features_to_metric(
        torch.from_numpy(synthetic), torch.from_numpy(real), prc_neighborhood=neighbors, verbose=False
    )
    metrics = manifold_metrics(real=real, synthetic=synthetic, neighbors=neighbors)
    assert metrics.precision == pytest.approx(expected["precision"], abs=1e-5)
    assert metrics.recall == pytest.approx(expected["recall"], abs=1e-5)


def test_neither_order_nor_blocks_nor_threads_change_a_bit(monkeypatch):
    real, synthetic = normal(1, 400, 64).astype(np.float32), normal(2, 300, 64).astype(np.float32)
    expected = manifold_metrics(real=real, synthetic=synthetic, neighbors=5)
    rng = np.random.default_rng(0)
    permuted = manifold_metrics(real=rng.permutation(real), synthetic=rng.permutation(synthetic), neighbors=5)
    assert permuted == expected
    for distances_at_a_time in (3000, 7777):
        monkeypatch.setattr(manifold, "_DISTANCES", distances_at_a_time)
        assert manifold_metrics(real=real, synthetic=synthetic, neighbors=5) == expected
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert manifold_metrics(real=real, synthetic=synthetic, neighbors=5) == expected
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("size", [1, 2, 64, 2048])
def test_distances_are_exact_whole_numbers(size):
    grids = manifold._on_a_grid(normal(1, 30, size), 100 * normal(2, 20, size))
    left, right = (grid.numpy().astype(np.int64).astype(object) for grid in grids)  # Python's whole numbers
    expected = [[sum((a - b) ** 2) for b in right] for a in left]
    for rows, distances in manifold._squared_distances(*grids):
        assert distances.numpy().astype(np.int64).tolist() == expected[rows]
        assert distances.max() < 2**53


def test_a_set_against_itself_is_perfect():
    x = normal(3)
    assert manifold_metrics(real=x, synthetic=x, neighbors=5) == ManifoldMetrics(1.0, 1.0, 1.0, 1.0)


def test_equal_distributions_are_near_the_expected_values():
    metrics = manifold_metrics(real=normal(4, 2000), synthetic=normal(5, 2000), neighbors=5)
    assert metrics.density == pytest.approx(1.0, abs=0.05)
    # Naeem et al., lemma 2: 1 − Π (M−k+1)…/(…) ≈ 1 − 2⁻ᵏ for n = m.
    assert metrics.coverage == pytest.approx(1 - 2**-5, abs=0.02)
    assert 0.5 < metrics.precision < 1 and 0.5 < metrics.recall < 1


def test_mode_collapse_keeps_precision_and_loses_diversity():
    modes = 6 * np.random.default_rng(6).normal(size=(10, 8))
    rng = np.random.default_rng(7)
    real = modes[rng.integers(10, size=1000)] + rng.normal(size=(1000, 8))
    collapsed = modes[0] + 0.3 * rng.normal(size=(1000, 8))
    metrics = manifold_metrics(real=real, synthetic=collapsed, neighbors=5)
    assert metrics.precision > 0.95
    assert metrics.recall < 0.05
    assert metrics.coverage < 0.15


def test_outliers_raise_recall_but_not_coverage():
    # Why density and coverage exist: a far synthetic image has a huge ball, in which all real images lie.
    real = normal(8, 300)
    synthetic = np.concatenate([np.full((3, 8), 40.0), np.full((3, 8), -40.0)])
    synthetic = synthetic + 1e-3 * normal(9, 6)
    metrics = manifold_metrics(real=real, synthetic=synthetic, neighbors=4)
    assert metrics.recall > 0.9
    assert metrics.coverage == metrics.precision == metrics.density == 0


def test_images_far_from_all_real_ones_score_nothing():
    metrics = manifold_metrics(real=normal(1), synthetic=normal(2) + 100, neighbors=5)
    assert metrics == ManifoldMetrics(0.0, 0.0, 0.0, 0.0)


def test_constant_features_do_not_fail():
    zeros = np.zeros((20, 4))
    assert manifold_metrics(real=zeros, synthetic=zeros, neighbors=5) == ManifoldMetrics(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("neighbors", [0, 10, 11])
def test_neighbors_beyond_the_images_are_refused(neighbors):
    with pytest.raises(SynthGainError, match=r"evaluation\.neighbors: found \d+; with 10 images .* 1\.\.9"):
        manifold_metrics(real=normal(1, 10), synthetic=normal(2, 12), neighbors=neighbors)
