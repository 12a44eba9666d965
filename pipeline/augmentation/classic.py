"""Classic augmentation, each image by its own draw: flips, whole-pixel shifts, affine maps and elastic distortions.

torchvision's transforms draw once for a whole batch and take no generator; these draw for each image, from one. Which
of them a policy applies, `policies.py` says. A flip is applied only where the data set says that a mirror image is of
the same class: a mirrored digit is another sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.augmentation.draws import Generators, uniform
from pipeline.augmentation.geometry import Fill, Flips, ImageFacts, affine_grid, flipped, sampled, shifted
from pipeline.augmentation.photometric import random_color
from pipeline.augmentation.trivial import trivial_augment

Augment = Callable[[Tensor, Generators], Tensor]


@dataclass(frozen=True)
class Strengths:
    """How strong the transforms are, and what they may assume: the section `augmentation` of the parameters.

    Attributes:
        fill, flips: as in `ImageFacts`.
        shift_translation: of `shift`, the largest shift as a fraction of the image side.
        affine_rotation_degrees, affine_translation, affine_scale, affine_shear_degrees: as in `random_affine`.
        elastic_alpha, elastic_sigma: as in `elastic_displacement`.
        color_brightness, color_contrast, color_saturation, color_hue: as in `random_color`.
        mixup_alpha: of the shares in which images are blended (`mixup.mixing`).
    """

    fill: int | float | Literal["edge", "mean"]
    flips: Flips
    shift_translation: float
    affine_rotation_degrees: float
    affine_translation: float
    affine_scale: float
    affine_shear_degrees: float
    elastic_alpha: float
    elastic_sigma: float
    color_brightness: float
    color_contrast: float
    color_saturation: float
    color_hue: float
    mixup_alpha: float


def classic_augmentation(transforms: Sequence[str], how: Strengths) -> Augment | None:
    """A policy as a function of a batch (N, C, H, W) float32 in 0..1, C = 1 or 3; None for the one that does nothing.

    Args:
        transforms: of the policy, in the order in which they are applied. An affine map and an elastic distortion
            after it are one interpolation. Mixup changes labels too, and is left to `mixup.mixing`.
        how: their strengths.
    """
    fill = ImageFacts(how.fill, how.flips).fill_between(0.0, 1.0)
    affine: dict[str, Any] = {
        "rotation_degrees": how.affine_rotation_degrees,
        "translation": how.affine_translation,
        "scale": how.affine_scale,
        "shear_degrees": how.affine_shear_degrees,
    }
    elastic: dict[str, Any] = {"elastic_alpha": how.elastic_alpha, "elastic_sigma": how.elastic_sigma}
    known: dict[str, Callable[..., Tensor]] = {
        "flip": partial(random_flip, flips=how.flips),
        "shift": partial(random_shift, translation=how.shift_translation, fill=fill),
        "affine": partial(random_affine, **affine, fill=fill),
        "elastic": partial(random_elastic, **elastic, fill=fill),
        "affine elastic": partial(random_affine_elastic, **affine, **elastic, fill=fill),
        "color": partial(
            random_color,
            brightness=how.color_brightness,
            contrast=how.color_contrast,
            saturation=how.color_saturation,
            hue=how.color_hue,
        ),
        "trivial_augment": partial(trivial_augment, fill=fill),
    }
    of_one_image = tuple(name for name in transforms if name != "mixup")
    joined = "affine elastic" if of_one_image == ("affine", "elastic") else None
    steps = [known[name] for name in ([joined] if joined else of_one_image)]

    def augment(images: Tensor, generator: Generators) -> Tensor:
        for step in steps:
            images = step(images, generator=generator)
        return images

    return augment if steps else None


def random_flip(images: Tensor, *, flips: Flips, generator: Generators) -> Tensor:
    """(N, C, H, W), each mirrored left to right in one case of two; with `both` also up and down."""
    draw = (uniform(2, len(images), generator=generator) + 1) / 2
    return flipped(images, flips, draw, probability=0.5)


def random_shift(images: Tensor, *, translation: float, fill: Fill = 0.0, generator: Generators) -> Tensor:
    """(N, C, H, W), each moved by whole pixels, uniform within ±`translation` of the side along each axis.

    It is the random crop of an image that is padded by so much.
    """
    most = round(translation * images.shape[-1])
    pixels = uniform(2, len(images), generator=generator).mul(most + 0.5).round().long()
    return shifted(images, pixels.clamp(-most, most), fill)


def random_affine(
    images: Tensor,
    *,
    rotation_degrees: float,
    translation: float,
    scale: float,
    shear_degrees: float,
    fill: Fill = 0.0,
    generator: Generators,
) -> Tensor:
    """(N, C, H, W) float32 in 0..1, each image mapped by its own draw, uniform within ±each bound.

    `translation` is a fraction of the image side, `scale` 0.1 means 0.9..1.1; `fill` comes in from outside.
    torchvision's RandomAffine draws one map for a whole batch; this is the same map for each image of its own.
    """
    grid = _random_grid(
        images,
        rotation_degrees=rotation_degrees,
        translation=translation,
        scale=scale,
        shear_degrees=shear_degrees,
        generator=generator,
    )
    return sampled(images, grid, fill)


def random_affine_elastic(
    images: Tensor,
    *,
    rotation_degrees: float,
    translation: float,
    scale: float,
    shear_degrees: float,
    elastic_alpha: float,
    elastic_sigma: float,
    fill: Fill = 0.0,
    generator: Generators,
) -> Tensor:
    """`random_affine` and an elastic distortion of each image, in one interpolation.

    Args:
        images: (N, C, H, W) float32 in 0..1.
        rotation_degrees, translation, scale, shear_degrees: as in `random_affine`.
        elastic_alpha, elastic_sigma: as in `elastic_displacement`.
        fill: what comes in from outside.
        generator: to draw from, the affine map first.
    """
    grid = _random_grid(
        images,
        rotation_degrees=rotation_degrees,
        translation=translation,
        scale=scale,
        shear_degrees=shear_degrees,
        generator=generator,
    )
    return _displaced(images, grid, elastic_alpha, elastic_sigma, fill, generator)


def random_elastic(
    images: Tensor, *, elastic_alpha: float, elastic_sigma: float, fill: Fill = 0.0, generator: Generators
) -> Tensor:
    """(N, C, H, W) float32 in 0..1, each image with its own elastic distortion (`elastic_displacement`)."""
    identity = torch.eye(2, 3, device=images.device).expand(len(images), 2, 3).contiguous()
    grid = affine_grid(identity, *images.shape[2:])
    return _displaced(images, grid, elastic_alpha, elastic_sigma, fill, generator)


def elastic_displacement(
    count: int, height: int, width: int, *, alpha: float, sigma: float, generator: Generators
) -> Tensor:
    """(count, height, width, 2) float32: how far each pixel of each image is taken from, in pixels (x, y).

    Uniform noise in −1..1 per pixel, smoothed by a Gaussian of `sigma` pixels, times `alpha` (Simard et al.
    2003, "Best practices for convolutional neural networks"). Inside a large image its standard deviation is
    alpha / (2σ√(3π)); outside of the image the noise is 0, so borders move less.
    torchvision's ElasticTransform draws one field for a whole batch; here each image has its own.
    """
    noise = uniform(2, count, height, width, generator=generator).flatten(0, 1)
    device = noise.device
    # Along an axis, smoothing is a multiplication by a matrix: for small images faster than a convolution.
    smooth = torch.matmul(_gaussian(height, sigma, device), noise)
    smooth = torch.matmul(smooth, _gaussian(width, sigma, device) * alpha)  # a symmetric matrix
    return smooth.view(2, count, height, width).permute(1, 2, 3, 0)


def _displaced(
    images: Tensor, grid: Tensor, alpha: float, sigma: float, fill: Fill, generator: Generators
) -> Tensor:
    """The images taken from the places of a grid, each of which is moved by its own elastic displacement."""
    count, _, height, width = images.shape
    pixels = elastic_displacement(count, height, width, alpha=alpha, sigma=sigma, generator=generator)
    return sampled(images, grid.add_(pixels.mul_(_pixel(width, height, pixels.device))), fill)


def _random_grid(
    images: Tensor,
    *,
    rotation_degrees: float,
    translation: float,
    scale: float,
    shear_degrees: float,
    generator: Generators,
) -> Tensor:
    """(N, H, W, 2): where each pixel is taken from, in −1..1."""
    draw = uniform(5, len(images), generator=generator)
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
    return affine_grid(maps, *images.shape[2:])


# Both are kept: to make one on a GPU, each batch would wait for a copy to it.


@cache
def _pixel(width: int, height: int, device: torch.device) -> Tensor:
    """(2,) float32: the size (x, y) of a pixel in a grid of −1..1."""
    return torch.tensor([2 / width, 2 / height], device=device)


@cache
def _gaussian(size: int, sigma: float, device: torch.device) -> Tensor:
    """(size, size) symmetric matrix that smooths a row of pixels; weights of the infinite Gaussian sum to 1."""
    place = torch.arange(size, dtype=torch.float64)
    reach = math.ceil(8 * sigma)
    total = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2).sum()
    weights = torch.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2) / total
    return weights.to(device, torch.float32)
