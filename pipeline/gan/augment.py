"""Differentiable augmentation of real and fake images alike (DiffAugment, arXiv:2006.10738).

It keeps the discriminator from learning a few hundred images by heart. Small shifts, rotations and scalings
only: a flip would turn a digit into another sign, and would leak into what the generator draws.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_affine(
    count: int,
    *,
    probability: float,
    translation: float,
    rotation_degrees: float,
    scale: float,
    generator: torch.Generator,
) -> Tensor:
    """(count, 2, 3) float32 maps for `affine_grid`: uniform in ±each bound, the identity with 1 − probability.

    `translation` is a fraction of the image side, `scale` 0.1 means 0.9..1.1.
    """
    draw = torch.rand(5, count, generator=generator, device=generator.device).mul_(2).sub_(1)  # −1..1
    applied = (draw[4] < 2 * probability - 1).float()
    angle = applied * draw[0] * math.radians(rotation_degrees)
    size = 1 + applied * draw[1] * scale
    # The grid runs from −1 to 1 across the image: a shift by a fraction f of the side is 2f.
    shift_x, shift_y = applied * draw[2] * 2 * translation, applied * draw[3] * 2 * translation
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    return torch.stack([cos, -sin, shift_x, sin, cos, shift_y], dim=1).view(count, 2, 3)


def apply_affine(images: Tensor, maps: Tensor) -> Tensor:
    """(N, 1, H, W) in −1..1, each mapped by its own (2, 3); what comes in from outside is background (−1)."""
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    # grid_sample pads with 0, the middle grey of −1..1: shift so that the padding is the background.
    return F.grid_sample(images + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False) - 1
