"""The keys of validation and test images: a generator of other people is checked for copies of them, unseen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.images import LabeledImages, pixel_keys
from pipeline.npz import open_npz, write_npz

Keys = npt.NDArray[np.int64]


def write_held_out_keys(path: Path, splits: Mapping[str, LabeledImages]) -> None:
    """Write the `pixel_keys` of each split by its name, and nothing else of its images."""
    write_npz(path, {name: pixel_keys(images.images) for name, images in splits.items()})


def read_held_out_keys(path: Path) -> dict[str, Keys]:
    """(n,) int64 for `validation` and for `test`, ascending: the `pixel_keys` of their images.

    Raises:
        SynthGainError: if the file is missing or damaged.
    """
    with open_npz(path, damaged="not a readable file of held-out keys", remedy="; make it again") as arrays:
        return {name: arrays[name].astype(np.int64) for name in ("validation", "test")}
