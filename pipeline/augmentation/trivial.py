"""TrivialAugment, wide (Müller and Hutter 2021, arXiv:2103.10158): one operation of random strength for each image.

The operations and their ranges are torchvision's `TrivialAugmentWide`. It has no strength to set and no flip, but it
rotates by up to 135 degrees: a 6 may become a 9.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.augmentation.draws import Generators, uniform
from pipeline.augmentation.geometry import Fill, affine_grid, sampled
from pipeline.augmentation.photometric import brightened, contrasted, saturated, sharpened

_LEVELS = 31
_MOST_DEGREES, _MOST_PIXELS, _MOST_FACTOR = 135.0, 32, 0.99


def trivial_augment(images: Tensor, *, fill: Fill, generator: Generators) -> Tensor:
    """(N, C, H, W) float32 in 0..1, each changed by one of 14 operations at one of 31 strengths.

    The largest translation is 32 pixels, as in the paper, and no more than the side.
    """
    draw = uniform(3, len(images), generator=generator)
    operation = _whole(draw[0], len(_OPERATIONS))
    level = _whole(draw[1], _LEVELS) / (_LEVELS - 1)
    sign = torch.where(draw[2] < 0, -1.0, 1.0)
    changed = images.clone()
    for number, change in enumerate(_OPERATIONS):
        which = (operation == number).nonzero().flatten()
        if len(which):
            changed[which] = change(images[which], level[which], sign[which], fill)
    return changed


def _whole(draw: Tensor, count: int) -> Tensor:
    """(N,) int64 in 0..count−1 from uniform numbers in −1..1."""
    return ((draw + 1) / 2 * count).long().clamp(0, count - 1)


# An operation maps (N, C, H, W) images, their levels (N,) in 0..1 and their signs (N,) ±1, with what lies outside.
Operation = Callable[[Tensor, Tensor, Tensor, Fill], Tensor]


def _mapped(images: Tensor, rows: list[list[Tensor | float]], fill: Fill) -> Tensor:
    """The images through affine maps, whose entries (2, 3) are numbers or (N,)."""
    base = images.new_zeros(len(images))
    maps = torch.stack([torch.stack([base + entry for entry in row], dim=1) for row in rows], dim=1)
    return sampled(images, affine_grid(maps, *images.shape[2:]), fill)


def _shear_x(images: Tensor, level: Tensor, sign: Tensor, fill: Fill) -> Tensor:
    shear = _MOST_FACTOR * level * sign
    return _mapped(images, [[1.0, shear, shear], [0.0, 1.0, 0.0]], fill)  # the top row stays


def _shear_y(images: Tensor, level: Tensor, sign: Tensor, fill: Fill) -> Tensor:
    shear = _MOST_FACTOR * level * sign
    return _mapped(images, [[1.0, 0.0, 0.0], [shear, 1.0, shear]], fill)  # the left column stays


def _translate_x(images: Tensor, level: Tensor, sign: Tensor, fill: Fill) -> Tensor:
    return _mapped(images, [[1.0, 0.0, _shift(images, level * sign)], [0.0, 1.0, 0.0]], fill)


def _translate_y(images: Tensor, level: Tensor, sign: Tensor, fill: Fill) -> Tensor:
    return _mapped(images, [[1.0, 0.0, 0.0], [0.0, 1.0, _shift(images, level * sign)]], fill)


def _shift(images: Tensor, share: Tensor) -> Tensor:
    """In the grid, which is 2 wide."""
    side = images.shape[-1]
    return 2 * share * min(_MOST_PIXELS, side) / side


def _rotate(images: Tensor, level: Tensor, sign: Tensor, fill: Fill) -> Tensor:
    angle = torch.deg2rad(_MOST_DEGREES * level * sign)
    cos, sin = torch.cos(angle), torch.sin(angle)
    return _mapped(images, [[cos, -sin, 0.0], [sin, cos, 0.0]], fill)


def _posterize(images: Tensor, level: Tensor, sign: Tensor, fill: Fill) -> Tensor:
    steps = (2.0 ** (8 - (6 * level).round()))[:, None, None, None]  # 8 bits to 2
    return (images * steps).floor().clamp(max=steps - 1) / steps


def _solarize(images: Tensor, level: Tensor, sign: Tensor, fill: Fill) -> Tensor:
    return torch.where(images >= (1 - level)[:, None, None, None], 1 - images, images)


def _autocontrast(images: Tensor, level: Tensor, sign: Tensor, fill: Fill) -> Tensor:
    from torchvision.transforms.v2 import functional

    changed: Tensor = functional.autocontrast(images)
    return changed


def _equalize(images: Tensor, level: Tensor, sign: Tensor, fill: Fill) -> Tensor:
    from torchvision.transforms.v2 import functional

    changed: Tensor = functional.equalize(images)
    return changed


def _with_factor(change: Callable[[Tensor, Tensor], Tensor]) -> Operation:
    return lambda images, level, sign, fill: change(images, 1 + _MOST_FACTOR * level * sign)


_OPERATIONS: tuple[Operation, ...] = (
    lambda images, level, sign, fill: images,
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
    _rotate,
    _with_factor(brightened),
    lambda images, level, sign, fill: (
        saturated(images, 1 + _MOST_FACTOR * level * sign) if images.shape[1] == 3 else images
    ),
    _with_factor(contrasted),
    _with_factor(sharpened),
    _posterize,
    _solarize,
    _autocontrast,
    _equalize,
)
