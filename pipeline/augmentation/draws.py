"""The random numbers of an augmentation: each image has its own, from its training's generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# What the random draws of a batch come from. Of several, each draws for an equal share of the images, in order: many
# trainings can share a batch, and each draws what it would alone.
Generators = torch.Generator | Sequence[torch.Generator]


def uniform(rows: int, count: int, *sides: int, generator: Generators) -> Tensor:
    """(rows, count, *sides) float32, uniform in −1..1."""
    generators = [generator] if isinstance(generator, torch.Generator) else generator
    share = count // len(generators)
    draws = [torch.rand(rows, share, *sides, generator=source, device=source.device) for source in generators]
    return (draws[0] if len(draws) == 1 else torch.cat(draws, dim=1)).mul_(2).sub_(1)
