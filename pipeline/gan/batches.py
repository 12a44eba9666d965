"""Which real images each batch of a training shows: epoch after epoch, every epoch in an order of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.gan.networks import images_from_uint8
from pipeline.images import LabeledImages, draw_indices
from pipeline.params import Gan
from pipeline.runtime.seeds import derive_seed

# Epoch → the positions of its images, in the order in which they are shown.
Order = Callable[[int], npt.NDArray[np.int64]]


def real_batches(
    real: LabeledImages, gan: Gan, *, seed: int, device: torch.device
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """The batches of a training, as a function of their number (from 0).

    It gives real images (batch_size, C, H, W) float32 in −1..1 and their labels (batch_size,) int64, on the device.
    """
    balance = real.labels if gan.class_sampling == "balanced" else None
    # Kept, because of 55 000 images a new draw of the order costs 2 % of a step. Three: a batch may reach into a second
    # epoch, and each batch asks epoch 0 for its length.
    order = lru_cache(maxsize=3)(partial(epoch_order, size=len(real), seed=seed, balance=balance))
    # The whole set lives on the device as uint8: no loader, no copies.
    all_images = torch.from_numpy(real.images).to(device)
    all_labels = torch.from_numpy(real.labels).to(device)

    def batch(number: int) -> tuple[Tensor, Tensor]:
        index = batch_indices(order, gan.batch_size, number).to(device)
        return images_from_uint8(all_images[index]), all_labels[index]

    return batch


def batch_indices(order: Order, batch_size: int, number: int) -> Tensor:
    """The positions (batch_size,) int64 of batch `number`: the epochs of `order`, joined without a gap.

    Depends on its arguments alone, so that a training can go on from any step.
    """
    length = len(order(0))
    places = np.arange(number * batch_size, (number + 1) * batch_size)
    epochs = range(places[0] // length, places[-1] // length + 1)
    return torch.from_numpy(np.concatenate([order(epoch) for epoch in epochs])[places - epochs[0] * length])


def epoch_order(
    epoch: int, *, size: int, seed: int, balance: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """The positions of an epoch over `size` images: every image once, in an order of its own.

    With the labels (size,) int64 to `balance`, each class is shown as often as the largest one: its images come round
    again, in a new order. Every epoch has the same length.
    """
    rng = np.random.default_rng(derive_seed(seed, "batches", epoch))
    if balance is None:
        return rng.permutation(size)
    per_class = np.bincount(balance)
    counts = np.where(per_class > 0, per_class.max(), 0)
    return rng.permutation(draw_indices(balance, counts, rng))
