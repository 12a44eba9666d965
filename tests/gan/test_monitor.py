"""What a monitor says of a generator that draws real images, unseen ones, of the classes that it is asked for."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.errors import SynthGainError
from pipeline.gan.monitor import Monitor, refuse_collapse
from pipeline.gan.networks import images_from_uint8
from pipeline.images import LabeledImages

CPU = torch.device("cpu")
GAN = SimpleNamespace(
    conditioning="projection",
    collapse_patience_images=300,
    total_images=1000,
    warmup_steps=1,
    batch_size=100,
    discriminator_steps=1,
)


def digits(*classes):
    """Training images, class after class as in a folder, and the perfect generator of the others."""
    data = load_digits()
    images = (data.images[:, None] * 15.9).astype(np.uint8)
    mine = [np.flatnonzero(data.target == label) for label in classes]
    train = np.concatenate([places[40:] for places in mine])
    labels = np.searchsorted(classes, data.target[train])
    real = LabeledImages(images[train], labels.astype(np.int64), tuple(map(str, classes)))
    unseen = images_from_uint8(torch.from_numpy(np.stack([images[places[:40]] for places in mine])))
    return real, unseen


class Draws:
    """A generator that gives the images of a class in turn."""

    z_dim, latents = 4, "normal"

    def __init__(self, images):
        self.images, self.num_classes = images, len(images)

    def __call__(self, z, labels):
        place = torch.arange(len(labels)) % self.images.shape[1]
        return self.images[labels, place]


def measure(real, images):
    monitor = Monitor(real, seed=0, device=CPU)
    row = monitor.measure(Draws(images))
    history = [row | {"images_seen": images} for images in (300, 600)]
    refuse_collapse(history, GAN, num_classes=real.num_classes, label="GAN", kept=None)
    return row


@pytest.mark.parametrize("classes", [(3, 8), (4, 9), (0, 1, 2), tuple(range(10))])
def test_real_images_are_no_collapse_of_however_few_classes(classes):
    real, unseen = digits(*classes)
    assert measure(real, unseen)["label_fidelity_1nn"] > 0.9


def test_of_more_images_than_it_compares_with_it_takes_some_of_each_class(monkeypatch):
    monkeypatch.setattr("pipeline.gan.monitor._REAL_IMAGES", 200)  # class after class, one class and a half
    assert measure(*digits(*range(10)))["label_fidelity_1nn"] > 0.8


@pytest.mark.parametrize("classes", [(3, 8), tuple(range(10))])
def test_labels_by_chance_are_a_collapse(classes):
    real, unseen = digits(*classes)
    count = len(classes)
    # Whichever class is asked for, all are drawn, in turn.
    chance = torch.stack(
        [unseen[(label + torch.arange(40)) % count, torch.arange(40)] for label in range(count)]
    )
    with pytest.raises(SynthGainError, match="collapsed"):
        measure(real, chance)


@pytest.mark.parametrize(
    ("changes", "well", "stops"),
    [
        ({}, (), True),
        ({}, (400,), False),  # collapsed for 200 images since
        ({}, (200,), True),
        ({"warmup_steps": 4}, (), False),  # what lies in the warm-up does not count
        ({"total_images": 1200}, (), False),  # half of the training is for learning
        ({"collapse_patience_images": 0}, (), False),
        ({"collapse_patience_images": 600}, (), False),
    ],
)
@pytest.mark.parametrize("apart", [50, 100, 200])
def test_a_collapse_is_counted_in_images_after_the_warm_up(changes, well, stops, apart):
    gan = SimpleNamespace(**vars(GAN) | changes)
    history = [
        {"images_seen": images, "diversity": 1.0 if images in well else 0.0, "label_fidelity_1nn": 1.0}
        for images in range(apart, 601, apart)
    ]
    with pytest.raises(SynthGainError, match="collapsed") if stops else nullcontext():
        refuse_collapse(history, gan, num_classes=2, label="GAN", kept=None)
