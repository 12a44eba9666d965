"""The facts of an extractor: accuracy by hand, and a floor of real images against real ones."""

import numpy as np

from pipeline.generative_metrics.extractor import evaluate_extractor
from pipeline.generative_metrics.features import Extractor
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


def facts(validation, seed=3):
    return evaluate_extractor(columns_and_brightness, DOMAIN, validation=validation, seed=seed)


def test_the_accuracy_is_the_share_of_validation_labels_that_it_sees():
    validation = pictures(1, 20)
    wrong = LabeledImages(validation.images, np.roll(validation.labels, 10), CLASS_NAMES)
    assert facts(validation)["validation_accuracy"] == 1
    assert facts(wrong)["validation_accuracy"] == 0.5


def test_the_floor_is_of_two_halves_of_the_validation_split():
    validation = pictures(1, 21)
    found = facts(validation)
    assert (found["floor_n"], found["feature_dim"]) == (21, 4)
    assert found["extractor_sha256"] == DOMAIN.sha256
    assert found == facts(validation)
    assert found["floor_fid"] != facts(validation, seed=4)["floor_fid"]
