"""Training with a pool: what the images without labels do to a classifier, and what they must not."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from pipeline.augmentation.mixup import mixing
from pipeline.classifier.network import predict
from pipeline.classifier.pool import PoolRecipe, pool_positions, smoothed, sure_labels, train_with_pool
from pipeline.classifier.training import Recipe, train_classifier
from pipeline.images import LabeledImages
from pipeline.params import Training

CPU = torch.device("cpu")
NEVER = 2.0  # no probability is so high


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images = (data.images[:, None] * 15.9).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    return LabeledImages(images[order], data.target[order].astype(np.int64), tuple("0123456789"))


def settings(**changes):
    values = {
        "channels": 8,
        "feature_dim": 32,
        "steps": 5,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "weight_decay": 0.01,
        "label_smoothing": 0.1,
    }
    return Training(**values | changes)


def train(images, pool, *, how=None, **recipe):
    return train_with_pool(
        Recipe(images, seed=3, **recipe),
        pool,
        how or settings(),
        device=CPU,
        advance=lambda units, note="": None,
    )


def weights(network):
    return torch.cat([tensor.flatten() for tensor in network.state_dict().values()])


def pool_of(images, labels=None, **changes):
    values = {"per_step": 32, "weak": None}
    return PoolRecipe(images.images, labels, **values | changes)


def noisy(images, rng):
    return images + 0.1 * torch.rand(images.shape, generator=rng)


def test_a_pool_with_labels_teaches_and_so_does_one_without(digits):
    few, rest, test = (digits.subset(np.arange(*ends)) for ends in ((0, 50), (50, 1200), (1200, 1797)))
    how = settings(steps=200)
    accuracy = {
        name: float(
            (predict(train(few, pool, how=how, augment=noisy), test.images, CPU) == test.labels).mean()
        )
        for name, pool in {
            "nothing": pool_of(rest, threshold=NEVER),
            "consistency": pool_of(rest, threshold=0.8),
            "true labels": pool_of(rest, rest.labels),
        }.items()
    }
    assert accuracy["nothing"] + 0.01 < accuracy["consistency"] < accuracy["true labels"], accuracy


def test_images_without_a_sure_label_change_nothing(digits):
    """Neither whose they are nor what is in them: the loss counts them as 0."""
    few = digits.subset(np.arange(50))
    networks = [
        train(few, pool)
        for pool in (
            pool_of(digits, threshold=NEVER),
            pool_of(digits.subset(np.arange(100, 900)), threshold=NEVER),
            pool_of(digits, digits.labels, weight=0.0),
        )
    ]
    assert torch.equal(weights(networks[0]), weights(networks[1]))
    assert torch.equal(weights(networks[0]), weights(networks[2]))
    alone = train_classifier(Recipe(few, seed=3), settings(), device=CPU, advance=lambda units, note="": None)
    torch.testing.assert_close(weights(networks[0]), weights(alone), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": "swapped"},
        {"per_step": 33},
        {"augment": None},
        {"weight": 0.5},
        {"labels": None, "threshold": 0.0},
        {"mix": mixing(("mixup",), alpha=0.4)},
    ],
    ids=lambda change: "-".join(change),
)
def test_every_option_changes_the_result_and_a_training_repeats_to_the_bit(digits, change):
    few = digits.subset(np.arange(50))
    if change.get("labels") == "swapped":
        change = {"labels": np.roll(digits.labels, 1)}

    def trained(**changed):
        recipe = {"augment": changed.pop("augment", noisy), "mix": changed.pop("mix", None)}
        return weights(train(few, pool_of(digits, **{"labels": digits.labels} | changed), **recipe))

    network = trained(**change)
    assert torch.equal(network, trained(**change))
    assert not torch.equal(network, trained())


def test_weak_augmentation_is_what_is_labelled_and_the_strong_one_what_is_learnt(digits):
    seen = {"weak": [], "strong": []}

    def watch(name):
        def augment(images, rng):
            seen[name].append(images.clone())
            return torch.zeros_like(images) if name == "weak" else images

        return augment

    labelled = []

    def sure(network, images, least, dtype):
        labelled.append(images)
        return sure_labels(network, images, least, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.classifier.pool.sure_labels", sure)
        pool = pool_of(digits, weak=watch("weak"))
        train(digits.subset(np.arange(50)), pool, augment=watch("strong"))
    assert len(labelled) == 5 and all((images == 0).all() for images in labelled)
    of_pool = [images for images in seen["strong"] if len(images) == 32]
    assert len(seen["strong"]) == 2 * len(of_pool) == 10  # 16 labelled images a step, and 32 others
    for weak, strong in zip(seen["weak"], of_pool, strict=True):
        assert torch.equal(weak, strong)  # the same images of the pool


def test_loss_weights_of_the_labelled_images_count_until_the_tail(digits):
    few = digits.subset(np.arange(50))
    uneven = np.linspace(0.5, 1.5, 50, dtype=np.float32)
    pool = pool_of(digits, digits.labels)
    plain, weighted, tailed = (
        weights(train(few, pool, **recipe))
        for recipe in (
            {},
            {"weights": uneven},
            {"weights": uneven, "real_images": 50, "real_only_tail": 1.0},
        )
    )
    assert not torch.equal(plain, weighted) and not torch.equal(weighted, tailed)
    assert torch.equal(plain, tailed)  # no step before the tail


@given(per_step=st.integers(1, 50), size=st.integers(1, 60))
def test_every_image_of_the_pool_is_shown_before_one_comes_again(per_step, size):
    images = LabeledImages(np.zeros((5, 1, 8, 8), np.uint8), np.zeros(5, np.int64), ("a",))
    pool = PoolRecipe(np.zeros((size, 1, 8, 8), np.uint8), None, per_step=per_step)
    shown = torch.cat(list(pool_positions(Recipe(images, seed=0), pool, settings(steps=12))))
    assert len(shown) == 12 * per_step
    counts = torch.bincount(shown, minlength=size)
    assert counts.max() - counts.min() <= 1


@given(probability=st.floats(0, 1), smoothing=st.floats(0, 0.9), classes=st.integers(2, 50))
def test_a_threshold_is_smoothed_as_labels_are(probability, smoothing, classes):
    label = torch.zeros(classes)
    label[0], label[1:] = probability, (1 - probability) / (classes - 1)
    smooth = label * (1 - smoothing) + smoothing / classes
    assert smoothed(probability, smoothing, classes) == pytest.approx(float(smooth[0]), abs=1e-6)
