"""Classic augmentation: a small random affine map of each image. No flips: a mirrored digit is another sign."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def random_affine(
    images: Tensor,
    *,
    rotation_degrees: float,
    translation: float,
    scale: float,
    shear_degrees: float,
    generator: torch.Generator,
) -> Tensor:
    """(N, 1, H, W) float32 in 0..1, each image mapped by its own draw, uniform within ±each bound.

    `translation` is a fraction of the image side, `scale` 0.1 means 0.9..1.1; what comes in from outside is 0.
    torchvision's RandomAffine draws one map for a whole batch; this is the same map for each image of its own.
    """
    draw = torch.rand(5, len(images), generator=generator, device=images.device).mul_(2).sub_(1)
    angle = draw[0] * math.radians(rotation_degrees)
    shear = torch.tan(draw[1] * math.radians(shear_degrees))
    size = 1 + draw[2] * scale
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    # Rotation × shear; the grid runs from −1 to 1, so a shift by a fraction f of the side is 2f.
    maps = torch.stack(
        [
            torch.stack([cos, cos * shear - sin, draw[3] * 2 * translation], dim=1),
            torch.stack([sin, sin * shear + cos, draw[4] * 2 * translation], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
