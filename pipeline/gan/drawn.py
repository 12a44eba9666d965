"""Images that a generator draws when they are needed, in any order: no disk has to hold them all."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pipeline.gan.generators import load_generator
from pipeline.gan.networks import Generator
from pipeline.gan.sampling import sample_images


def drawn_images(
    positions: npt.NDArray[np.int64], *, path: Path, counts: tuple[int, ...], seed: int
) -> npt.NDArray[np.uint8]:
    """Some of the images that `generate_file` would write, to the byte; drawn on the CPU.

    Args:
        positions: (n,): 0 is the first image of the first class.
        path: of the generator, which each process reads once.
        counts: images of each class.
        seed: of the latents.

    Returns:
        (n, H, W), in colour (n, 3, H, W).
    """
    generator, ends = _generator(path), np.cumsum(counts)
    labels = np.searchsorted(ends, positions, side="right")
    places = positions - (ends - counts)[labels]
    pixels = np.empty((len(positions), *generator.image_shape), dtype=np.uint8)
    for label in np.unique(labels).tolist():
        chosen = np.flatnonzero(labels == label)
        first, last = int(places[chosen].min()), int(places[chosen].max())
        drawn = sample_images(
            generator,
            seed=seed,
            label=label,
            start=first,
            count=last + 1 - first,
            device=torch.device("cpu"),
        )
        pixels[chosen] = drawn[places[chosen] - first]
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels


@cache
def _generator(path: Path) -> Generator:
    return load_generator(path, torch.device("cpu"))[0]
