"""The facts of an extractor: accuracy by hand, and a floor of real images against real ones."""

import numpy as np
import pytest

from pipeline.generative_metrics.extractor import evaluate_extractor
from pipeline.generative_metrics.features import Extractor, statistics_from_features
from pipeline.generative_metrics.fid import fid_floor
from pipeline.images import LabeledImages

DOMAIN = Extractor("domain", "ab" * 32)
CLASS_NAMES = ("dark", "light")


def pictures(seed, per_class):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(2), per_class)
    images = rng.integers(0, 100, (2 * per_class, 1, 4, 4)) + 100 * labels[:, None, None, None]
    return LabeledImages(images.astype(np.uint8), labels.astype(np.int64), CLASS_NAMES)


def columns_and_brightness(images):
    """The means of the four columns as features; light images are of class 1."""
    features = images.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
    light = (features.mean(axis=1) > 100).astype(np.float32)
    return features, np.stack([1 - light, light], axis=1)


def facts(train, validation, seed=3):
    return evaluate_extractor(columns_and_brightness, DOMAIN, train=train, validation=validation, seed=seed)


def test_the_accuracy_is_the_share_of_validation_labels_that_it_sees():
    validation = pictures(1, 20)
    wrong = LabeledImages(validation.images, np.roll(validation.labels, 10), CLASS_NAMES)
    assert facts(pictures(2, 30), validation)["validation_accuracy"] == 1
    assert facts(pictures(2, 30), wrong)["validation_accuracy"] == 0.5


@pytest.mark.parametrize(("per_class", "n"), [(20, 40), (10, 20)])
def test_the_floor_is_of_as_many_train_images_as_there_are(per_class, n):
    found = facts(pictures(2, per_class), pictures(1, 20))
    assert (found["floor_n"], found["feature_dim"]) == (n, 4)
    assert found["extractor_sha256"] == DOMAIN.sha256
    assert found == facts(pictures(2, per_class), pictures(1, 20))


def test_the_floor_of_all_train_images_is_the_distance_of_the_splits():
    train, validation = pictures(2, 20), pictures(1, 20)
    real, other_real = (
        statistics_from_features(columns_and_brightness(part.images)[0], extractor=DOMAIN)
        for part in (validation, train)
    )
    assert facts(train, validation)["floor_fid"] == round(
        fid_floor(real=real, other_real=other_real).value, 6
    )
