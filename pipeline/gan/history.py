"""The training history: means over the steps between two evaluation points."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from pipeline.gan.losses import Loss, recognised


class Interval:
    """The steps since the last evaluation point.

    Sums, and the count of steps beside them, stay on the device: reading a value every step would wait for it every
    step, and a step that is replayed there (`runtime/cuda_graphs.py`) runs no line of Python.
    """

    _NAMES = ("d_loss", "g_loss", "d_real", "d_fake", "d_accuracy", "d_accuracy_real", "d_accuracy_fake")

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(self._NAMES) + 1, device=device)
        self.one = torch.ones((), device=device)
        self.restart()

    def restart(self) -> None:
        """Forget the steps so far, where the sums lie; the clock starts."""
        self.sums.zero_()
        self.start = time.monotonic()

    @torch.no_grad()
    def add(
        self, loss: Loss, *, d_loss: Tensor, g_loss: Tensor, real_logits: Tensor, fake_logits: Tensor
    ) -> None:
        """Add a step: two scalar losses, and the discriminator's logits (N,) of the pairs that it learnt from."""
        right = recognised(loss, real=real_logits, fake=fake_logits)
        pairs = (real_logits > fake_logits).float().mean()
        means = d_loss, g_loss, real_logits.mean(), fake_logits.mean(), pairs, *right
        self.sums += torch.stack([*means, self.one])

    def means(self) -> dict[str, float]:
        """The means over the steps; the columns of the same names are described at `train_gan`."""
        return dict(zip(self._NAMES, (self.sums[:-1] / self.sums[-1]).tolist(), strict=True))

    def steps_per_second(self) -> float:
        """The speed since the last evaluation point."""
        return float(self.sums[-1]) / (time.monotonic() - self.start)
