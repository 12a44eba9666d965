"""The adversarial losses and the penalties on the discriminator's gradient.

Logits are (N,) float32, larger is more real. The i-th real and the i-th fake image are of the same class:
`relativistic` compares them in pairs (R3GAN, arXiv:2501.05441), so that the game is about the images and never
about which class is easier to fake.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Literal["relativistic", "non_saturating", "saturating", "least_squares", "hinge", "wasserstein"]
Penalty = Literal["none", "gradient_penalty", "r1", "r1_r2"]


def discriminator_loss(loss: Loss, *, real: Tensor, fake: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """What the discriminator minimises; a mean over the batch.

    - relativistic: softplus(−(D(x) − D(G(z)))) over pairs (arXiv:1807.00734, arXiv:2501.05441)
    - non_saturating, saturating: binary cross-entropy on the logits (arXiv:1406.2661)
    - least_squares: ½(D(x) − 1)² + ½D(G(z))² (arXiv:1611.04076)
    - hinge: max(0, 1 − D(x)) + max(0, 1 + D(G(z))) (arXiv:1705.02894)
    - wasserstein: D(G(z)) − D(x) (arXiv:1701.07875)

    `label_smoothing` is one-sided (arXiv:1606.03498): the target of a real image is 1 − label_smoothing, that of a
    fake one stays 0. Losses without a target (relativistic, hinge, wasserstein) have none to smooth.
    """
    target = 1 - label_smoothing
    if loss == "relativistic":
        return F.softplus(fake - real).mean()
    if loss in ("non_saturating", "saturating"):
        on_real = target * F.softplus(-real) + (1 - target) * F.softplus(real)
        return on_real.mean() + F.softplus(fake).mean()
    if loss == "least_squares":
        return ((real - target).square().mean() + fake.square().mean()) / 2
    if loss == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(loss: Loss, *, real: Tensor, fake: Tensor) -> Tensor:
    """What the generator minimises; a mean over the batch. Only `relativistic` reads the real logits.

    non_saturating is −log D(G(z)), saturating is log(1 − D(G(z))): the minimax game, whose gradient vanishes where the
    discriminator is sure (arXiv:1406.2661, section 3).
    """
    if loss == "relativistic":
        return F.softplus(real - fake).mean()
    if loss == "non_saturating":
        return F.softplus(-fake).mean()
    if loss == "saturating":
        return -F.softplus(fake).mean()
    if loss == "least_squares":
        return (fake - 1).square().mean() / 2
    return -fake.mean()


def recognised(loss: Loss, *, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of real and of fake images that the discriminator recognises: two scalars in 0..1.

    An image is recognised if its logit is on the side of the boundary that the loss trains for: 0, or ½ for least
    squares. Relativistic and Wasserstein logits have no zero of their own: there a real image is recognised if it
    scores above the mean fake one, a fake if it scores below the mean real one.
    """
    if loss in ("relativistic", "wasserstein"):
        real_boundary, fake_boundary = fake.mean(), real.mean()
    else:
        real_boundary = fake_boundary = torch.full_like(real[0], 0.5 if loss == "least_squares" else 0.0)
    return (real > real_boundary).float().mean(), (fake < fake_boundary).float().mean()


def half_squared_gradient(logits: Tensor, images: Tensor) -> Tensor:
    """Mean of ½‖∇ₓD(x)‖² over a batch; on real images it is R1 (arXiv:1801.04406), on fake images R2.

    `images` must require gradients and have led to `logits`; the result can be differentiated again.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean() / 2


def interpolation_penalty(score: Callable[[Tensor], Tensor], *, real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (‖∇D(x̂)‖ − 1)² at random points x̂ between real and fake images (WGAN-GP, arXiv:1704.00028).

    `score` maps images to logits; images are (N, C, H, W). One random point per pair, from torch's own stream.
    """
    share = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = torch.lerp(real, fake, share).requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(between).sum(), between, create_graph=True)
    norms: Tensor = gradient.flatten(1).norm(dim=1)
    return (norms - 1).square().mean()
