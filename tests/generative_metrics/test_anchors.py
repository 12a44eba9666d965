"""The baselines: what each is by definition, exact counts, and the same images from the same seed."""

import functools

import numpy as np
import pytest

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.anchors import (
    COPYCAT_NOISE,
    class_gaussian,
    class_kernel_density,
    class_mixup,
    copycat,
)
from pipeline.images import LabeledImages

NAMES = ("dark", "light", "none")
BASELINES = {
    "copycat": copycat,
    "class_kernel_density": functools.partial(class_kernel_density, sigma=0.1),
    "class_gaussian": class_gaussian,
    "class_mixup": class_mixup,
}


def real_images(per_class: int = 30, size: int = 4) -> LabeledImages:
    """Dark and light images, mixed; the third class has none."""
    rng = np.random.default_rng(1)
    labels = np.tile([0, 1], per_class)
    means = np.where(labels == 0, 80, 170)[:, None, None, None]
    images = np.clip(rng.normal(means, 12, (2 * per_class, 1, size, size)), 0, 255)
    return LabeledImages(images.astype(np.uint8), labels.astype(np.int64), NAMES)


def made(baseline, real=None, counts=(40, 25, 0), seed=0):
    return baseline(
        real_images() if real is None else real,
        counts=np.array(counts, dtype=np.int64),
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_gives_the_asked_number_of_images_that_look_like_their_class(baseline):
    images = made(baseline)
    assert images.counts().tolist() == [40, 25, 0]
    assert images.class_names == NAMES and images.images.shape[1:] == (1, 4, 4)
    for label, mean in ((0, 80), (1, 170)):
        assert images.images[images.labels == label].mean() == pytest.approx(mean, abs=8)


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_repeats_with_its_seed_and_with_no_other(baseline):
    first, again, other = made(baseline), made(baseline), made(baseline, seed=1)
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != other.images).any()
    assert len(np.unique(first.images.reshape(65, -1), axis=0)) > 60


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_a_class_without_real_images_is_refused(baseline):
    with pytest.raises(SynthGainError, match=r"class (2|none)"):
        made(baseline, counts=(1, 1, 1))


def nearest(images: LabeledImages, real: LabeledImages) -> tuple[np.ndarray, np.ndarray]:
    differences = images.images[:, None].astype(float) - real.images[None]
    distances = np.sqrt(np.square(differences).mean(axis=(2, 3, 4)))
    return distances.argmin(axis=1), distances.min(axis=1)


@pytest.mark.parametrize(("baseline", "noise"), [("copycat", COPYCAT_NOISE), ("class_kernel_density", 25.5)])
def test_copies_have_noise_of_the_stated_width(baseline, noise):
    # Ten images far from each other, so that the original of each copy is known.
    rng = np.random.default_rng(3)
    real = LabeledImages(
        rng.integers(80, 176, (10, 1, 12, 12)).astype(np.uint8), np.zeros(10, np.int64), NAMES
    )
    images = made(BASELINES[baseline], real, counts=(95, 0, 0))
    original, distance = nearest(images, real)
    assert np.sqrt(np.square(distance).mean()) == pytest.approx(noise, rel=0.03)
    used = np.bincount(original, minlength=10)
    assert used.max() - used.min() <= 1


def test_the_gaussian_has_the_mean_and_the_full_covariance_of_its_class():
    rng = np.random.default_rng(4)
    common = rng.normal(0, 20, (4000, 1))  # all four pixels move together …
    values = 128 + common * np.array([1, 1, -1, 0.5]) + rng.normal(0, 5, (4000, 4))  # … one the other way
    real = LabeledImages(
        np.clip(np.rint(values), 0, 255).astype(np.uint8).reshape(-1, 1, 2, 2),
        np.zeros(4000, np.int64),
        NAMES,
    )
    sample = made(class_gaussian, real, counts=(4000, 0, 0)).images.reshape(4000, 4)
    table = real.images.reshape(4000, 4)
    np.testing.assert_allclose(sample.mean(axis=0), table.mean(axis=0), atol=1.5)
    np.testing.assert_allclose(np.cov(sample.T), np.cov(table.T), atol=0.08 * np.cov(table.T).max())


def test_the_gaussian_of_a_few_images_reaches_beyond_their_span():
    few = real_images(per_class=3, size=8)
    sample = made(class_gaussian, few, counts=(200, 0, 0)).images.reshape(200, -1).astype(float)
    # Two directions hold three images; shrinkage towards a sphere opens all 64.
    assert np.linalg.matrix_rank(sample - sample.mean(axis=0)) == 64


def test_one_image_of_a_class_is_enough():
    one = LabeledImages(np.full((1, 1, 4, 4), 90, np.uint8), np.zeros(1, np.int64), NAMES)
    for name in ("class_gaussian", "class_mixup"):
        assert (made(BASELINES[name], one, counts=(5, 0, 0)).images == 90).all(), name


def test_a_mixup_lies_on_the_line_between_two_images_of_its_class():
    real = real_images(per_class=2)
    images = made(class_mixup, real, counts=(50, 0, 0)).images.reshape(50, -1).astype(float)
    first, second = real.images[real.labels == 0].reshape(2, -1).astype(float)
    direction = second - first
    share = (images - first) @ direction / (direction @ direction)
    assert share.min() >= -0.01 and share.max() <= 1.01 and np.ptp(share) > 0.8
    assert np.abs(images - first - share[:, None] * direction).max() <= 1  # rounding to whole grey levels
