"""Mixup (Zhang et al. 2018, arXiv:1710.09412): each image is blended with another one, and its label likewise.

x̃ = λ·xᵢ + (1 − λ)·xⱼ and ỹ = λ·yᵢ + (1 − λ)·yⱼ, with λ ~ Beta(α, α). The paper's code draws one λ for a batch; here
each image has its own, as in all other policies. Batches are in random order, so j is the image before i. It is the
one transform that sees labels, and it stands last in a policy: what is mixed has been changed already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from pipeline.augmentation.draws import Generators, uniform

# Images (N, C, H, W) float32 in 0..1 and their targets (N, num_classes) float32 → the same of the mixed images.
Mix = Callable[[Tensor, Tensor, Generators], tuple[Tensor, Tensor]]

_KNOTS = 4096  # of the quantile function; between them it is read as a line


def mixing(transforms: Sequence[str], *, alpha: float) -> Mix | None:
    """The part of a policy that mixes images with each other; None where it changes each image by itself alone.

    Args:
        transforms: of the policy.
        alpha: of the Beta distribution, above 0: near 0 hardly anything is mixed, at 1 every share is as likely.
    """

    def mix(images: Tensor, targets: Tensor, generator: Generators) -> tuple[Tensor, Tensor]:
        return mixup(images, targets, alpha=alpha, generator=generator)

    return mix if "mixup" in transforms else None


def mixup(images: Tensor, targets: Tensor, *, alpha: float, generator: Generators) -> tuple[Tensor, Tensor]:
    """Each image and its target, blended with those before it: the first one with the last one.

    Args:
        images: (N, C, H, W) float32.
        targets: (N, num_classes) float32: a label's distribution, times the weight of its image if images have some.
            The cross-entropy is linear in it, so that each of the two labels keeps its own weight.
        alpha: of the Beta distribution, above 0.
        generator: to draw from; of several, each mixes an equal share of the images among themselves.
    """
    trainings = 1 if isinstance(generator, torch.Generator) else len(generator)
    share = beta_draws(len(images), alpha=alpha, generator=generator)

    def blended(values: Tensor) -> Tensor:
        before = values.reshape(trainings, -1, *values.shape[1:]).roll(1, dims=1).reshape(values.shape)
        return torch.lerp(before, values, share.view(-1, *[1] * (values.dim() - 1)))

    return blended(images), blended(targets)


def beta_draws(count: int, *, alpha: float, generator: Generators) -> Tensor:
    """(count,) float32 in 0..1 from Beta(α, α): its quantile function at uniform draws.

    torch's own Beta takes no generator. This one takes one number for each draw, and runs on the generator's device.
    """
    place = (uniform(1, count, generator=generator)[0] + 1) * (_KNOTS / 2)
    below = place.long().clamp(0, _KNOTS - 1)
    quantiles = _quantiles(alpha, place.device)
    return torch.lerp(quantiles[below], quantiles[below + 1], place - below)


@cache
def _quantiles(alpha: float, device: torch.device) -> Tensor:
    """(_KNOTS + 1,) float32: the quantile function of Beta(α, α) at equal steps from 0 to 1."""
    from scipy.special import betaincinv

    steps = torch.linspace(0, 1, _KNOTS + 1, dtype=torch.float64)
    return torch.from_numpy(betaincinv(alpha, alpha, steps.numpy())).to(device, torch.float32)
