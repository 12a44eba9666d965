"""How many convolutions a GAN has for images of a side, and how wide: what `auto` says in the parameters.

A side is g · 2ᵏ with g in 4..7. The generator starts from a grid of g × g and doubles it k times; the discriminator
halves the side until 4 or less are left. A layer on a grid of r × r has about 1024 / r channels in the generator and
512 / r in the discriminator: each layer then costs about the same. Chosen by speed: docs/gan.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pipeline.params import Gan

_GENERATOR_WIDTH, _DISCRIMINATOR_WIDTH = 1024, 512
_LAST_GRID = 4

Layers = tuple[list[int], list[int]]


def generator_layers(gan: Gan, *, side: int) -> Layers:
    """The widths and the strides of a generator's layers for images of `side` pixels."""
    grids = [side >> doubling for doubling in range(_doublings(side), 0, -1)]  # before each doubling
    channels = [_width(_GENERATOR_WIDTH, grid) for grid in grids]
    if gan.generator_channels != "auto":
        channels = list(gan.generator_channels)
    return channels, _strides(gan, gan.generator_strides, layers=len(channels), doublings=len(grids))


def discriminator_layers(gan: Gan, *, side: int) -> Layers:
    """The widths and the strides of a discriminator's layers for images of `side` pixels."""
    grid = side // 2 if gan.architecture == "compact" else side  # compact has halved it before
    grids = [grid]
    while grids[-1] > _LAST_GRID:
        grids.append(-(-grids[-1] // 2))
    # compact: a convolution on the half side, too; elsewhere the first one halves the side.
    shown = grids if gan.architecture == "compact" else grids[1:]
    channels = [_width(_DISCRIMINATOR_WIDTH, grid) for grid in shown]
    if gan.discriminator_channels != "auto":
        channels = list(gan.discriminator_channels)
    strides = _strides(gan, gan.discriminator_strides, layers=len(channels), doublings=len(grids) - 1)
    return channels, strides


def _doublings(side: int) -> int:
    """How often a grid of 4 to 7 a side doubles to `side`; of another side, a larger odd one."""
    count = 0
    while side % 2 == 0 and side // 2 >= _LAST_GRID:
        side, count = side // 2, count + 1
    return count


def _width(total: int, grid: int) -> int:
    """The power of two next to total ÷ grid, 16 to 256."""
    return min(256, max(16, 1 << round(math.log2(total / grid))))


def _strides(gan: Gan, strides: Sequence[int] | Literal["auto"], *, layers: int, doublings: int) -> list[int]:
    """Those of the parameters. `auto`: 2 at the side of the image for as many layers as there are doublings, else 1."""
    if strides != "auto":
        return list(strides)
    if gan.architecture == "mlp":
        return []
    return [1] * (layers - doublings) + [2] * min(layers, doublings)
