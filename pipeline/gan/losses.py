"""The adversarial game: relativistic pairing with gradient penalties (R3GAN, arXiv:2501.05441).

A pair is a real and a fake image *of the same class*: the game is about the images, never about which class
is easier to fake.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def discriminator_loss(*, real: Tensor, fake: Tensor) -> Tensor:
    """Mean of softplus(−(D(x) − D(G(z)))) over pairs; logits (N,) each."""
    return F.softplus(fake - real).mean()


def generator_loss(*, real: Tensor, fake: Tensor) -> Tensor:
    """Mean of softplus(−(D(G(z)) − D(x))) over pairs; logits (N,) each."""
    return F.softplus(real - fake).mean()


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Mean of ½‖∇ₓD(x)‖² over a batch; on real images it is R1 (arXiv:1801.04406), on fake images R2.

    `images` must require gradients and have led to `logits`; the result can be differentiated again.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean() / 2
