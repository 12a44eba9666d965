"""Parzen windows: one Gaussian in closed form, SciPy on many, exactness of the blocks, the protocol's choices."""

import math

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.neighbors import KernelDensity

from pipeline.errors import SynthGainError
from pipeline.generative_metrics import likelihood
from pipeline.generative_metrics.likelihood import SIGMAS, chosen_sigma, log_densities, parzen_likelihood
from pipeline.images import LabeledImages


def pictures(seed: int, n: int, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, size, size)).astype(np.uint8)


def near(centres: np.ndarray, seed: int, n: int, sigma: float) -> np.ndarray:
    """n draws from the density of Gaussians of this width on the centres."""
    rng = np.random.default_rng(seed)
    values = centres[rng.integers(len(centres), size=n)] + 255 * sigma * rng.normal(
        size=(n, *centres.shape[1:])
    )
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def labeled(images: np.ndarray) -> LabeledImages:
    return LabeledImages(images, np.zeros(len(images), dtype=np.int64), ("only",))


@pytest.mark.parametrize("sigma", [0.1, 0.35, 1.0])
def test_one_sample_is_one_gaussian(sigma):
    centre, images = pictures(1, 1), pictures(2, 5)
    squared = np.square((images.astype(float) - centre) / 255).sum(axis=(1, 2, 3))
    expected = -squared / (2 * sigma**2) - 36 / 2 * math.log(2 * math.pi * sigma**2)
    np.testing.assert_allclose(log_densities(centre, images, sigmas=(sigma,))[0], expected, rtol=1e-12)


def test_an_image_on_its_only_sample_has_the_peak_density():
    image = pictures(1, 1)
    (value,) = log_densities(image, image, sigmas=(0.2,))[0]
    assert value == pytest.approx(-18 * math.log(2 * math.pi * 0.04), rel=1e-12)


def test_agrees_with_scikit_learn():
    samples, images = pictures(3, 40), pictures(4, 30)
    tables = [side.reshape(len(side), -1) / 255 for side in (samples, images)]
    for sigma, values in zip(SIGMAS, log_densities(samples, images, sigmas=SIGMAS), strict=True):
        expected = KernelDensity(bandwidth=sigma).fit(tables[0]).score_samples(tables[1])
        np.testing.assert_allclose(values, expected, rtol=1e-9)


def test_densities_that_underflow_are_finite_and_right():
    # 784 pixels apart by the whole range: each density is e^−39200 and less.
    samples, images = np.zeros((3, 1, 28, 28), np.uint8), np.full((1, 1, 28, 28), 255, np.uint8)
    (value,) = log_densities(samples, images, sigmas=(0.1,))[0]
    exponent = logsumexp([-784 / 0.02] * 3) - math.log(3)
    assert value == pytest.approx(exponent - 392 * math.log(2 * math.pi * 0.01), rel=1e-12)


def test_neither_blocks_nor_order_change_a_value(monkeypatch):
    samples, images = pictures(5, 50, 28), pictures(6, 33, 28)
    expected = log_densities(samples, images, sigmas=(0.2, 0.5))
    alone = [log_densities(samples, images[i : i + 1], sigmas=(0.2, 0.5)) for i in range(33)]
    np.testing.assert_array_equal(np.concatenate(alone, axis=1), expected)
    for distances_at_a_time in (1, 170, 1000):
        monkeypatch.setattr(likelihood, "_DISTANCES", distances_at_a_time)
        np.testing.assert_array_equal(log_densities(samples, images, sigmas=(0.2, 0.5)), expected)
    permuted = np.random.default_rng(0).permutation(samples)
    np.testing.assert_allclose(log_densities(permuted, images, sigmas=(0.2, 0.5)), expected, rtol=1e-12)


@pytest.mark.parametrize("index", [1, 4])
def test_the_width_that_made_the_images_is_chosen(index):
    centres = np.full((4, 1, 12, 12), 128, np.uint8)
    centres[1:3, :, :6] = (100, 160)[0]
    assert chosen_sigma(centres, near(centres, 1, 200, SIGMAS[index])) == SIGMAS[index]


def test_the_grid_is_the_protocols():
    np.testing.assert_allclose(SIGMAS, np.logspace(-1, 0, 10))


def test_the_width_comes_from_validation_and_the_figure_from_test():
    centres = np.full((6, 1, 12, 12), 128, np.uint8)
    validation, test = near(centres, 1, 100, SIGMAS[3]), near(centres, 2, 80, SIGMAS[1])
    result = parzen_likelihood(synthetic=labeled(centres), validation=labeled(validation), test=labeled(test))
    assert (result.sigma, result.samples, result.test_images) == (SIGMAS[3], 6, 80)
    values = log_densities(centres, test, sigmas=(SIGMAS[3],))[0]
    assert result.nats == values.mean()
    assert result.standard_error == pytest.approx(values.std() / math.sqrt(80))


def test_at_most_the_protocols_samples_and_validation_images_are_used(monkeypatch):
    monkeypatch.setattr(likelihood, "SAMPLES", 10)
    monkeypatch.setattr(likelihood, "VALIDATION_IMAGES", 5)
    synthetic, validation, test = (labeled(pictures(seed, 30)) for seed in (1, 2, 3))
    result = parzen_likelihood(synthetic=synthetic, validation=validation, test=test)
    assert result.samples == 10
    every_third = synthetic.images[::3]  # spread over the classes, which lie one after another
    assert result.sigma == chosen_sigma(every_third, validation.images[:5])
    assert result.nats == log_densities(every_third, test.images, sigmas=(result.sigma,))[0].mean()


def test_real_images_beat_noise_and_a_collapsed_generator():
    modes = np.clip(np.random.default_rng(1).normal(128, 60, (8, 1, 8, 8)), 0, 255).astype(np.uint8)
    real, validation, test = (labeled(near(modes, seed, 300, 0.08)) for seed in (2, 3, 4))

    def nats(images: np.ndarray) -> float:
        return parzen_likelihood(synthetic=labeled(images), validation=validation, test=test).nats

    collapsed = near(modes[:1], 5, 300, 0.08)
    assert nats(real.images) > nats(collapsed) + 10
    assert nats(real.images) > nats(pictures(6, 300, 8)) + 10


@pytest.mark.parametrize(("samples", "images"), [((0, 6), (1, 6)), ((1, 6), (0, 6)), ((1, 6), (1, 8))])
def test_sets_that_do_not_fit_are_one_clear_line(samples, images):
    with pytest.raises(SynthGainError, match=r"Parzen windows: found samples .* of one size, is needed"):
        log_densities(pictures(1, *samples), pictures(2, *images), sigmas=(0.1,))
