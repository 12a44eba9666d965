"""Networks trained as one batch against the same trained one by one: equal but for rounding."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.augmentation.classic import random_affine, random_affine_elastic
from pipeline.augmentation.mixup import mixing
from pipeline.classifier.batched import train_classifiers
from pipeline.classifier.training import Recipe, fresh_epochs, train_classifier
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.params import Training

CPU = torch.device("cpu")
BOUNDS = {"rotation_degrees": 10.0, "translation": 0.1, "scale": 0.1, "shear_degrees": 10.0}
# Adam divides a gradient by its own size, and rounding decides about one that is nearly nothing.
MIXUP = mixing(["mixup"], alpha=1.0)
NEAR = {"rtol": 1e-3, "atol": 1e-4}


def affine(images, generator):
    return random_affine(images, **BOUNDS, generator=generator)


def elastic(images, generator):
    return random_affine_elastic(images, **BOUNDS, elastic_alpha=10.0, elastic_sigma=2.0, generator=generator)


def settings(**changes):
    defaults = {
        "channels": 8,
        "feature_dim": 32,
        "steps": 6,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "weight_decay": 0.01,
        "label_smoothing": 0.1,
    }
    return Training(**defaults | changes)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images = (data.images[:, None] * 15.9).astype(np.uint8)
    return LabeledImages(images, data.target.astype(np.int64), tuple("0123456789"))


def part(digits, start, stop):
    return digits.subset(np.arange(start, stop))


@pytest.fixture
def recipes(digits):
    """One of each kind: sizes, seeds, augmentations, mixing, weights, passes and tails of their own."""
    weights = np.linspace(0.5, 1.5, 50, dtype=np.float32)
    fresh = part(digits, 100, 400)
    return [
        Recipe(part(digits, 0, 40), seed=0),
        Recipe(part(digits, 0, 40), seed=0, augment=affine),
        Recipe(part(digits, 20, 70), seed=1, augment=elastic, weights=weights),
        Recipe(part(digits, 30, 90), seed=2, augment=affine, first_augmented=25),
        Recipe(
            fresh,
            seed=3,
            draw_epoch=fresh_epochs(fresh, real_images=20, per_epoch=np.full(10, 2)),
        ),
        Recipe(
            part(digits, 20, 70), seed=4, augment=elastic, weights=weights, real_images=12, real_only_tail=0.5
        ),
        Recipe(part(digits, 0, 40), seed=5, mix=MIXUP),
        Recipe(part(digits, 20, 70), seed=6, augment=affine, mix=MIXUP, weights=weights),
        Recipe(
            part(digits, 20, 70), seed=7, real_images=30, real_only_tail=0.5, tail_weights=weights[:30] ** 3
        ),
        Recipe(part(digits, 0, 40), seed=8, logit_shift=np.linspace(-3, 0, 10)),
    ]


def alone(recipe, training, fresh=None):
    """The same training by itself; a `draw_epoch` remembers what it has shown, and needs to be new."""
    recipe = replace(recipe, draw_epoch=fresh)
    return train_classifier(recipe, training, device=CPU, advance=lambda units, note="": None)


def test_each_network_is_the_one_that_is_trained_alone(recipes):
    steps = []
    networks = train_classifiers(
        recipes, settings(), device=CPU, advance=lambda units, note="": steps.append(units)
    )
    assert steps == [len(recipes)] * 6
    for recipe, network in zip(recipes, networks, strict=True):
        again = recipe.draw_epoch and fresh_epochs(recipe.training, real_images=20, per_epoch=np.full(10, 2))
        expected = alone(recipe, settings(), again).state_dict()
        assert not network.training
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], **NEAR)


@pytest.mark.parametrize(
    ("changed", "position"),
    [
        ("augment", 1),
        ("weights", 2),
        ("first_augmented", 3),
        ("draw_epoch", 4),
        ("real_only_tail", 5),
        ("mix", 6),
        ("tail_weights", 8),
        ("logit_shift", 9),
    ],
)
def test_every_part_of_a_recipe_counts(recipes, changed, position):
    """Else the test above could hold two wrongs against each other."""
    none = {"first_augmented": 0, "real_only_tail": 0.0}.get(changed)
    recipe = recipes[position]
    plain = replace(recipe, **{changed: none})
    with_it, without = train_classifiers(
        [recipe, plain], settings(), device=CPU, advance=lambda units, note="": None
    )
    assert not torch.allclose(with_it.conv1.weight, without.conv1.weight, **NEAR)


def test_the_company_of_others_changes_nothing(recipes):
    train = partial(train_classifiers, settings=settings(), device=CPU, advance=lambda units, note="": None)
    (one,) = train(recipes[1:2])
    among_others = train([recipes[1], recipes[3], recipes[2]])[0]
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, among_others.state_dict()[name], **NEAR)


def test_bfloat16_is_computed_in_when_asked_for(recipes):
    train = partial(
        train_classifiers, recipes[:2], settings(), device=CPU, advance=lambda units, note="": None
    )
    exact, rounded = train()[0], train(dtype=torch.bfloat16)[0]
    assert not torch.allclose(exact.hidden.weight, rounded.hidden.weight, **NEAR)
    assert torch.allclose(exact.hidden.weight, rounded.hidden.weight, atol=0.04)  # two steps' length


def test_one_that_diverges_is_an_error(recipes):
    with pytest.raises(SynthGainError, match="the classifier diverged"):
        train_classifiers(
            recipes[:2], settings(learning_rate=1e30), device=CPU, advance=lambda units, note="": None
        )


class Operations(TorchDispatchMode):
    """Counts what is computed in its block: on a GPU, a kernel each."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_step_of_many_takes_no_more_operations_than_a_step_of_one(digits):
    """What makes it fast where starting an operation takes longer than computing it."""

    def operations_per_step(networks):
        counts = []
        for steps in (8, 18):  # within one pass of 320 images
            with Operations() as counted:
                train_classifiers(
                    [Recipe(part(digits, 0, 320), seed=i) for i in range(networks)],
                    settings(steps=steps),
                    device=CPU,
                    advance=lambda units, note="": None,
                )
            counts.append(counted.count)
        return (counts[1] - counts[0]) / 10

    # 211 and 231: cutting its batch from the pass, on the CPU, is what each network has of its own.
    assert operations_per_step(9) < 1.2 * operations_per_step(1)
