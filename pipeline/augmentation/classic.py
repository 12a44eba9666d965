"""Classic augmentation: a small random affine map of each image, and a random elastic distortion.

No flips: a mirrored digit is another sign. Which of these a policy applies, `policies.py` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# What the random draws of a batch come from. Of several, each draws for an equal share of the images, in order: many
# trainings can share a batch, and each draws what it would alone.
Generators = torch.Generator | Sequence[torch.Generator]
Augment = Callable[[Tensor, Generators], Tensor]


def classic_augmentation(
    transforms: Sequence[str],
    *,
    affine_rotation_degrees: float,
    affine_translation: float,
    affine_scale: float,
    affine_shear_degrees: float,
    elastic_alpha: float,
    elastic_sigma: float,
) -> Augment | None:
    """A policy as a function of a batch (N, 1, H, W) float32 in 0..1; None for the policy that does nothing.

    Args:
        transforms: of the policy.
        affine_rotation_degrees, affine_translation, affine_scale, affine_shear_degrees: as in `random_affine`.
        elastic_alpha, elastic_sigma: as in `elastic_displacement`.
    """
    affine: dict[str, Any] = {
        "rotation_degrees": affine_rotation_degrees,
        "translation": affine_translation,
        "scale": affine_scale,
        "shear_degrees": affine_shear_degrees,
    }
    elastic: dict[str, Any] = {"elastic_alpha": elastic_alpha, "elastic_sigma": elastic_sigma}
    known: dict[tuple[str, ...], Callable[..., Tensor]] = {
        ("affine",): partial(random_affine, **affine),
        ("elastic",): partial(random_elastic, **elastic),
        ("affine", "elastic"): partial(random_affine_elastic, **affine, **elastic),
    }
    if not transforms:
        return None
    augment = known[tuple(transforms)]
    return lambda images, generator: augment(images, generator=generator)


def random_affine(
    images: Tensor,
    *,
    rotation_degrees: float,
    translation: float,
    scale: float,
    shear_degrees: float,
    generator: Generators,
) -> Tensor:
    """(N, 1, H, W) float32 in 0..1, each image mapped by its own draw, uniform within ±each bound.

    `translation` is a fraction of the image side, `scale` 0.1 means 0.9..1.1; what comes in from outside is 0.
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
    return _sampled(images, grid)


def random_affine_elastic(
    images: Tensor,
    *,
    rotation_degrees: float,
    translation: float,
    scale: float,
    shear_degrees: float,
    elastic_alpha: float,
    elastic_sigma: float,
    generator: Generators,
) -> Tensor:
    """`random_affine` and an elastic distortion of each image, in one interpolation.

    Args:
        images: (N, 1, H, W) float32 in 0..1.
        rotation_degrees, translation, scale, shear_degrees: as in `random_affine`.
        elastic_alpha, elastic_sigma: as in `elastic_displacement`.
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
    return _displaced(images, grid, elastic_alpha, elastic_sigma, generator)


def random_elastic(
    images: Tensor, *, elastic_alpha: float, elastic_sigma: float, generator: Generators
) -> Tensor:
    """(N, 1, H, W) float32 in 0..1, each image with its own elastic distortion (`elastic_displacement`)."""
    identity = torch.eye(2, 3, device=images.device).expand(len(images), 2, 3).contiguous()
    grid = affine_grid(identity, *images.shape[2:])
    return _displaced(images, grid, elastic_alpha, elastic_sigma, generator)


def affine_grid(maps: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel is taken from: (N, 2, 3) float32 maps give (N, height, width, 2) in −1..1, x before y.

    It is torch's `affine_grid` without aligned corners, as one matrix product and so in a tenth of the time.
    """
    device = maps.device
    x = (2 * torch.arange(width, device=device) + 1) / width - 1
    y = (2 * torch.arange(height, device=device) + 1) / height - 1
    places = torch.stack([x.repeat(height), y.repeat_interleave(width), torch.ones_like(x).repeat(height)])
    return (maps.view(-1, 3) @ places).view(-1, 2, height, width).permute(0, 2, 3, 1)


def elastic_displacement(
    count: int, height: int, width: int, *, alpha: float, sigma: float, generator: Generators
) -> Tensor:
    """(count, height, width, 2) float32: how far each pixel of each image is taken from, in pixels (x, y).

    Uniform noise in −1..1 per pixel, smoothed by a Gaussian of `sigma` pixels, times `alpha` (Simard et al.
    2003, "Best practices for convolutional neural networks"). Inside a large image its standard deviation is
    alpha / (2σ√(3π)); outside of the image the noise is 0, so borders move less.
    torchvision's ElasticTransform draws one field for a whole batch; here each image has its own.
    """
    noise = _uniform(2, count, height, width, generator=generator).flatten(0, 1)
    device = noise.device
    # Along an axis, smoothing is a multiplication by a matrix: for small images faster than a convolution.
    smooth = torch.matmul(_gaussian(height, sigma, device), noise)
    smooth = torch.matmul(smooth, _gaussian(width, sigma, device).mul_(alpha))  # a symmetric matrix
    return smooth.view(2, count, height, width).permute(1, 2, 3, 0)


def _displaced(images: Tensor, grid: Tensor, alpha: float, sigma: float, generator: Generators) -> Tensor:
    """The images taken from the places of a grid, each of which is moved by its own elastic displacement."""
    count, _, height, width = images.shape
    pixels = elastic_displacement(count, height, width, alpha=alpha, sigma=sigma, generator=generator)
    # The grid runs from −1 to 1: a pixel is 2/side of it.
    return _sampled(images, grid.add_(pixels.mul_(pixels.new_tensor([2 / width, 2 / height]))))


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
    draw = _uniform(5, len(images), generator=generator)
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


def _uniform(rows: int, count: int, *sides: int, generator: Generators) -> Tensor:
    """(rows, count, *sides) float32, uniform in −1..1."""
    generators = [generator] if isinstance(generator, torch.Generator) else generator
    share = count // len(generators)
    draws = [torch.rand(rows, share, *sides, generator=source, device=source.device) for source in generators]
    return (draws[0] if len(draws) == 1 else torch.cat(draws, dim=1)).mul_(2).sub_(1)


def _sampled(images: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _gaussian(size: int, sigma: float, device: torch.device) -> Tensor:
    """(size, size) symmetric matrix that smooths a row of pixels; weights of the infinite Gaussian sum to 1."""
    place = torch.arange(size, dtype=torch.float64)
    reach = math.ceil(8 * sigma)
    total = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2).sum()
    weights = torch.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2) / total
    return weights.to(device, torch.float32)
