"""Changes of brightness, contrast, saturation and hue, each image by its own draw.

torchvision's functions take one factor for a whole batch. At factor 0 they give what a factor blends with (grey,
mean, blurred); the blend itself is done here, with a factor for each image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.augmentation.draws import Generators, uniform


def random_color(
    images: Tensor,
    *,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    generator: Generators,
) -> Tensor:
    """(N, C, H, W) float32 in 0..1, each with its own brightness, contrast, saturation and hue, in this order.

    Grey images (C = 1) have neither saturation nor hue; as much is drawn for them.

    Args:
        images: to be changed.
        brightness, contrast, saturation: factors are uniform in 1 ± this.
        hue: the shift is uniform in ± this, in turns of the colour circle, at most 0.5.
        generator: to draw from.
    """
    draw = uniform(4, len(images), generator=generator)
    images = brightened(images, 1 + draw[0] * brightness)
    images = contrasted(images, 1 + draw[1] * contrast)
    if images.shape[1] == 3:
        images = saturated(images, 1 + draw[2] * saturation)
        images = hue_shifted(images, draw[3] * hue)
    return images


def brightened(images: Tensor, factors: Tensor) -> Tensor:
    """(N, C, H, W) in 0..1 times a factor (N,) each, within 0..1."""
    return (images * factors[:, None, None, None]).clamp(0, 1)


def contrasted(images: Tensor, factors: Tensor) -> Tensor:
    """(N, C, H, W) in 0..1, each blended with the mean of its grey version: 0 is that mean, 1 the image."""
    from torchvision.transforms.v2 import functional

    return _blended(images, functional.adjust_contrast(images, 0.0), factors)


def saturated(images: Tensor, factors: Tensor) -> Tensor:
    """(N, C, H, W) in 0..1, each blended with its grey version: 0 is grey, 1 the image."""
    from torchvision.transforms.v2 import functional

    return _blended(images, functional.adjust_saturation(images, 0.0), factors)


def sharpened(images: Tensor, factors: Tensor) -> Tensor:
    """(N, C, H, W) in 0..1, each blended with a blurred version: 0 is blurred, 1 the image, above is sharper."""
    from torchvision.transforms.v2 import functional

    return _blended(images, functional.adjust_sharpness(images, 0.0), factors)


def hue_shifted(images: Tensor, turns: Tensor) -> Tensor:
    """(N, 3, H, W) in 0..1, the hue of each moved along the colour circle by `turns` (N,)."""
    red, green, blue = images.unbind(1)
    value, least = images.amax(1), images.amin(1)
    chroma = value - least
    divisor = torch.where(chroma == 0, 1.0, chroma)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sixths = sixths + 6 * turns[:, None, None]
    # Back to a channel: its value, less as much of the chroma as the hue is away from it.
    channels = []
    for place in (5.0, 3.0, 1.0):
        distance = (sixths + place).remainder(6)
        channels.append(value - chroma * torch.minimum(distance, 4 - distance).clamp(0, 1))
    return torch.stack(channels, dim=1)


def _blended(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    return (others + factors[:, None, None, None] * (images - others)).clamp(0, 1)
