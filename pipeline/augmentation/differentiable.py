"""What the discriminator sees: images changed by classic and by differentiable augmentation, and instance noise.

Classic augmentation is for the real images alone and changes what there is to learn: the generator draws such images
too, and cannot copy a few hundred pictures. Differentiable augmentation (DiffAugment, arXiv:2006.10738) is for real and
fake images alike: it keeps the discriminator from learning a few hundred images by heart. It has small shifts,
rotations and scalings, and cutout. It flips only where the data set says that mirror images are of the same class: a
flip leaks into what the generator draws, and turns a digit into another sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.augmentation.classic import random_affine_elastic
from pipeline.augmentation.geometry import (
    DIGITS,
    Fill,
    ImageFacts,
    affine_grid,
    flipped,
    outside_value,
    sampled,
)

# At gan.real_augmentation 1: the strength at which `classifier` augments by default, of images of 28 pixels.
_ROTATION_DEGREES, _TRANSLATION, _SCALE, _SHEAR_DEGREES = 10.0, 0.08, 0.1, 8.0
_ELASTIC_ALPHA, _ELASTIC_SIGMA, _SIDE = 34.0, 4.0, 28


@dataclass(frozen=True)
class Differentiable:
    """The differentiable augmentation of real and fake images.

    Attributes:
        probability: of an image to be changed.
        translation: largest shift, as a fraction of the side.
        rotation_degrees, scale: largest rotation, and 0.1 for 0.9..1.1.
        cutout: side of the blanked square, as a fraction of the image's.
        facts: what is true of the images.
    """

    probability: float
    translation: float
    rotation_degrees: float
    scale: float
    cutout: float
    facts: ImageFacts = DIGITS


def augment_real(
    images: Tensor, strength: float, generator: torch.Generator, facts: ImageFacts = DIGITS
) -> Tensor:
    """Real images (N, C, H, W) in −1..1, each with its own affine and elastic distortion, and mirrored if allowed.

    `strength` multiplies their bounds. The bounds of the elastic one grow with the image's side: its shifts, in
    pixels, are proportional to alpha / sigma.
    """
    if strength == 0:
        return images
    side = images.shape[-1] / _SIDE
    distorted = random_affine_elastic(
        (images + 1) / 2,
        rotation_degrees=strength * _ROTATION_DEGREES,
        translation=strength * _TRANSLATION,
        scale=strength * _SCALE,
        shear_degrees=strength * _SHEAR_DEGREES,
        elastic_alpha=strength * _ELASTIC_ALPHA * side**2,
        elastic_sigma=_ELASTIC_SIGMA * side,
        fill=facts.fill_between(0.0, 1.0),
        generator=generator,
    )
    return _flipped(distorted * 2 - 1, facts, probability=0.5, generator=generator)


def augment(images: Tensor, how: Differentiable, noise: float | Tensor, generator: torch.Generator) -> Tensor:
    """(N, C, H, W) images in −1..1 as the discriminator sees them, each with its own draw.

    `noise` is the standard deviation of the instance noise (arXiv:1610.04490); a scalar tensor is taken to be above 0.
    """
    if how.probability > 0:
        maps = sample_affine(
            len(images),
            probability=how.probability,
            translation=how.translation,
            rotation_degrees=how.rotation_degrees,
            scale=how.scale,
            generator=generator,
        )
        fill = how.facts.fill_between(-1.0, 1.0)
        images = apply_affine(images, maps, fill)
        if how.cutout > 0:
            images = cutout(
                images, probability=how.probability, share=how.cutout, fill=fill, generator=generator
            )
        # A draw that flips is one of two that would be applied: mirror images are as likely as the others.
        images = _flipped(images, how.facts, probability=how.probability / 2, generator=generator)
    if isinstance(noise, Tensor) or noise > 0:  # to read a tensor would wait for the device
        images = images + noise * torch.randn(images.shape, generator=generator, device=images.device)
    return images


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


def apply_affine(images: Tensor, maps: Tensor, fill: Fill = -1.0) -> Tensor:
    """(N, C, H, W) in −1..1, each mapped by its own (2, 3); what comes in from outside is `fill`, here black."""
    return sampled(images, affine_grid(maps, *images.shape[2:]), fill)


def cutout(
    images: Tensor, *, probability: float, share: float, fill: Fill = -1.0, generator: torch.Generator
) -> Tensor:
    """(N, C, H, W) in −1..1 with a square of `share` of the side blanked in some of them.

    The centre is uniform over the image, so that a square may lie partly outside (arXiv:1708.04552). The square gets
    the value `fill`; where that is no value, the mean of the image.
    """
    count, size = len(images), images.shape[-1]
    draw = torch.rand(3, count, generator=generator, device=generator.device)
    half = torch.where(draw[2] < probability, share / 2, 0.0)  # a square of side 0 blanks nothing
    place = (torch.arange(size, device=images.device) + 0.5) / size
    rows = (place - draw[0, :, None]).abs() < half[:, None]
    columns = (place - draw[1, :, None]).abs() < half[:, None]
    blank = (rows[:, None, :, None] & columns[:, None, None, :]).to(images.dtype)
    outside = outside_value(images, fill)
    if outside is None:
        return images * (1 - blank)
    return (images - outside) * (1 - blank) + outside


def _flipped(images: Tensor, facts: ImageFacts, *, probability: float, generator: torch.Generator) -> Tensor:
    """The images, mirrored where the data set allows it; nothing is drawn where it does not."""
    if facts.flips == "none":
        return images
    draw = torch.rand(2, len(images), generator=generator, device=generator.device)
    return flipped(images, facts.flips, draw, probability=probability)
