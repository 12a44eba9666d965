"""What a data set says of its images, and how images are taken from other places under that.

A map that moves an image also brings in what lies outside of it. What that is, the images decide: black around digits,
white around scanned letters, anything around photographs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

# A value in the scale of the images; `edge`: the nearest pixel; `mean`: each image's own mean of each channel.
Fill = float | Literal["edge", "mean"]
Flips = Literal["none", "horizontal", "both"]
_AXES = {"horizontal": (3,), "both": (3, 2)}


@dataclass(frozen=True)
class ImageFacts:
    """What is true of all images of a data set.

    Attributes:
        fill: what comes in from outside: `edge`, `mean`, or a value in 0..255.
        flips: which mirror images are of the same class.
    """

    fill: int | float | Literal["edge", "mean"] = 0
    flips: Flips = "none"

    def fill_between(self, low: float, high: float) -> Fill:
        """`fill` for images whose black is `low` and whose white is `high`."""
        return self.fill if isinstance(self.fill, str) else low + (high - low) * self.fill / 255


DIGITS = ImageFacts(fill=0, flips="none")


def affine_grid(maps: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel is taken from: (N, 2, 3) float32 maps give (N, height, width, 2) in −1..1, x before y.

    It is torch's `affine_grid` without aligned corners, as one matrix product and so in a tenth of the time.
    """
    device = maps.device
    x = (2 * torch.arange(width, device=device) + 1) / width - 1
    y = (2 * torch.arange(height, device=device) + 1) / height - 1
    places = torch.stack([x.repeat(height), y.repeat_interleave(width), torch.ones_like(x).repeat(height)])
    return (maps.view(-1, 3) @ places).view(-1, 2, height, width).permute(0, 2, 3, 1)


def sampled(images: Tensor, grid: Tensor, fill: Fill) -> Tensor:
    """(N, C, H, W) float32, bilinear at the places (N, H, W, 2) of a grid in −1..1, x before y."""
    if fill == "edge":
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    outside = outside_value(images, fill)
    # grid_sample pads with 0: shift so that 0 is what lies outside.
    shifted = images if outside is None else images - outside
    moved = F.grid_sample(shifted, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved if outside is None else moved + outside


def outside_value(images: Tensor, fill: Fill) -> Tensor | float | None:
    """What lies outside of images (N, C, H, W): a value, or (N, C, 1, 1) means; None: 0. `edge` counts as `mean`."""
    if isinstance(fill, str):
        return images.mean(dim=(2, 3), keepdim=True)
    return fill or None


def shifted(images: Tensor, pixels: Tensor, fill: Fill) -> Tensor:
    """(N, C, H, W), each moved left and up by whole pixels (2, N) int64 (x, y): no interpolation."""
    height, width = images.shape[2:]
    columns = torch.arange(width, device=images.device) + pixels[0, :, None]
    rows = torch.arange(height, device=images.device) + pixels[1, :, None]
    moved = images.gather(2, rows.clamp(0, height - 1)[:, None, :, None].expand_as(images))
    moved = moved.gather(3, columns.clamp(0, width - 1)[:, None, None, :].expand_as(images))
    if fill == "edge":
        return moved
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[
        :, None, None, :
    ]
    outside = outside_value(images, fill)
    return torch.where(inside, moved, 0.0 if outside is None else outside)


def flipped(images: Tensor, flips: Flips, draw: Tensor, *, probability: float) -> Tensor:
    """(N, C, H, W), each mirrored along each allowed axis with a probability.

    Args:
        images: any scale.
        flips: which mirror images are of the same class: `horizontal` (left and right), or `both`; `none` flips none.
        draw: (2, N) uniform in 0..1, for left-right and for up-down.
        probability: of each flip, 0..1.
    """
    for row, axis in enumerate(_AXES.get(flips, ())):
        images = torch.where((draw[row] < probability)[:, None, None, None], images.flip(axis), images)
    return images
