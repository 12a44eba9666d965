"""The order in which a training shows its real images."""

from functools import partial

import numpy as np
import torch

from pipeline.gan.batches import batch_indices, epoch_order


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
