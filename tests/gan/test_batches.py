"""The order in which a training shows its real images."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import torch

from pipeline.gan.batches import RealBatches, batch_indices, epoch_order
from pipeline.images import LabeledImages


def epochs_of(size, seed, balance=None):
    return partial(epoch_order, size=size, seed=seed, balance=balance)


def test_batches_show_every_image_once_per_epoch():
    shown = torch.cat([batch_indices(epochs_of(10, 0), 4, draw) for draw in range(5)])
    assert sorted(shown[:10].tolist()) == sorted(shown[10:].tolist()) == list(range(10))
    assert shown[:10].tolist() != shown[10:].tolist()


def test_a_batch_depends_on_its_number_and_seed_alone():
    assert torch.equal(batch_indices(epochs_of(10, 0), 4, 3), batch_indices(epochs_of(10, 0), 4, 3))
    assert not torch.equal(batch_indices(epochs_of(100, 0), 40, 3), batch_indices(epochs_of(100, 1), 40, 3))


def test_a_set_smaller_than_a_batch_fills_it():
    batch = batch_indices(epochs_of(3, 0), 8, 0)
    assert np.bincount(batch.numpy()).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_balanced_batches_show_every_class_equally_often_and_every_image_of_it():
    labels = np.array([0] * 12 + [2] * 3)  # no image of class 1
    shown = torch.cat([batch_indices(epochs_of(15, 0, labels), 6, draw) for draw in range(4)]).numpy()
    assert len(shown) == 24  # an epoch: 12 of each class that there is
    assert np.bincount(labels[shown], minlength=3).tolist() == [12, 0, 12]
    assert np.bincount(shown, minlength=15).tolist() == [1] * 12 + [4] * 3
    again = batch_indices(epochs_of(15, 0, labels), 6, 3)
    assert torch.equal(torch.from_numpy(shown[18:]), again)
    assert not torch.equal(again, batch_indices(epochs_of(15, 1, labels), 6, 3))


def test_the_batches_of_a_training_are_its_images_with_their_labels():
    labels = np.arange(10, dtype=np.int64) % 2
    pixels = (25 * np.arange(10, dtype=np.uint8)).reshape(10, 1, 1, 1).repeat(4, 2).repeat(4, 3)
    gan = SimpleNamespace(class_sampling="as_drawn", batch_size=5)
    batches = RealBatches(
        LabeledImages(pixels, labels, ("even", "odd")), gan, seed=0, device=torch.device("cpu")
    )
    for number in (0, 1, 7):
        images, shown = batches.at(batches.indices(number))
        numbers = ((images[:, 0, 0, 0] + 1) * 127.5 / 25).round().long()
        assert torch.equal(numbers % 2, shown)
    first, second = (batches.at(batches.indices(number))[0][:, 0, 0, 0] for number in (0, 1))
    assert len(torch.cat([first, second]).unique()) == 10  # an epoch shows every image
