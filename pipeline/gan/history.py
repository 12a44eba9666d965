"""The training history: means over the steps between two evaluation points."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from pipeline.gan.losses import Loss, recognised


class Interval:
    """The steps since the last evaluation point.

    Sums stay on the device: reading a value every step would wait for it every step.
    """

    _NAMES = ("d_loss", "g_loss", "d_real", "d_fake", "d_accuracy", "d_accuracy_real", "d_accuracy_fake")

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(self._NAMES), device=device)
        self.steps, self.start = 0, time.monotonic()

    @torch.no_grad()
    def add(
        self, loss: Loss, *, d_loss: Tensor, g_loss: Tensor, real_logits: Tensor, fake_logits: Tensor
    ) -> None:
        """Add a step: two scalar losses, and the discriminator's logits (N,) of the pairs that it learnt from."""
        right = recognised(loss, real=real_logits, fake=fake_logits)
        pairs = (real_logits > fake_logits).float().mean()
        self.sums += torch.stack([d_loss, g_loss, real_logits.mean(), fake_logits.mean(), pairs, *right])
        self.steps += 1

    def means(self) -> dict[str, float]:
        """The means over the steps; the columns of the same names are described at `train_gan`."""
        return dict(zip(self._NAMES, (self.sums / self.steps).tolist(), strict=True))

    def steps_per_second(self) -> float:
        """The speed since the last evaluation point."""
        return self.steps / (time.monotonic() - self.start)
