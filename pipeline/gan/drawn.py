"""Images that a generator draws when they are needed, in any order: no disk has to hold them all."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.gan.generators import load_generator
from pipeline.gan.networks import Generator
from pipeline.gan.sampling import sample_images


def drawn_images(
    positions: npt.NDArray[np.int64], *, path: Path, sha256: str, counts: tuple[int, ...], seed: int
) -> npt.NDArray[np.uint8]:
    """Some of the images that `generate_file` would write, to the byte; drawn on the CPU.

    Args:
        positions: (n,): 0 is the first image of the first class.
        path: of the generator, which each process reads once.
        sha256: of its file.
        counts: images of each class.
        seed: of the latents.

    Returns:
        (n, H, W), in colour (n, 3, H, W).

    Raises:
        SynthGainError: if the file is another one by now, or gives no images.
    """
    generator, ends = _generator(path, sha256), np.cumsum(counts)
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
def _generator(path: Path, sha256: str) -> Generator:
    if file_sha256(path) != sha256:
        raise SynthGainError(f"{path}: changed while images were drawn from it; give the same command again")
    return load_generator(path, torch.device("cpu"))[0]
