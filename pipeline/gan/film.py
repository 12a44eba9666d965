"""The film strip: the same latents over training, as one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.runtime.outputs import atomic_output

_SCALE = 2  # 28 pixels are small on today's screens


def save_film_strip(path: Path, film_strip: npt.NDArray[np.uint8]) -> None:
    """Write frames (frames, rows, C, H, W) uint8 as a PNG: time runs to the right, a row is one latent."""
    frames, rows, channels, height, width = film_strip.shape
    picture = film_strip.transpose(1, 3, 0, 4, 2).reshape(rows * height, frames * width, channels)
    picture = picture.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
    with atomic_output(path) as temporary:
        Image.fromarray(picture[:, :, 0] if channels == 1 else picture).save(
            temporary, format="PNG", optimize=True
        )
