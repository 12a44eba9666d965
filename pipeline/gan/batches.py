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


class RealBatches:
    """The batches of a training, each a function of its number (from 0).

    The whole set lives on the device as uint8: no loader, no copies.
    """

    def __init__(self, real: LabeledImages, gan: Gan, *, seed: int, device: torch.device) -> None:
        balance = real.labels if gan.class_sampling == "balanced" else None
        # Kept, because of 55 000 images a new draw of the order costs 2 % of a step. Three: a batch may reach into a
        # second epoch, and each batch asks epoch 0 for its length.
        self._order = lru_cache(maxsize=3)(partial(epoch_order, size=len(real), seed=seed, balance=balance))
        self._batch_size = gan.batch_size
        self._images = torch.from_numpy(real.images).to(device)
        self._labels = torch.from_numpy(real.labels).to(device)

    def indices(self, number: int) -> Tensor:
        """The positions (batch_size,) int64 of its images, on the CPU."""
        return batch_indices(self._order, self._batch_size, number)

    def at(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Of positions (N,) on the device: real images (N, C, H, W) float32 in −1..1, and their labels (N,) int64."""
        return images_from_uint8(self._images[index]), self._labels[index]


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
