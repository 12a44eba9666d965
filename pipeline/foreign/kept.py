"""What a run of somebody else's generator left: where it lies, and that it holds no validation or test image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.held_out import Keys
from pipeline.images import LabeledImages, keys_in_order

# The provenance of synthetic images: who made them, if it was not our GAN.
ORIGIN = "generator"


def generated_file(folder: Path, member: int) -> Path:
    """The images of a run, in the folder of its replicate."""
    return folder / (f"images_{member}.npz" if member else "images.npz")


def checked_images(path: Path, held_out: Mapping[str, Keys], *, name: str) -> LabeledImages:
    """The images of a run, which `generated_replicates` saved, if none is a copy of a held-out image.

    Args:
        path: their file.
        held_out: keys of the images of each held-out split, by its name.
        name: for messages.

    Raises:
        SynthGainError: if the file is missing or damaged, or an image is, pixel for pixel, one of a held-out split.
    """
    images = LabeledImages.load(path)
    keys = keys_in_order(images.images)
    for split, known in held_out.items():
        copies = np.flatnonzero(np.isin(keys, known))
        if len(copies):
            first = int(copies[0])
            place = int((images.labels[:first] == images.labels[first]).sum())
            raise SynthGainError(
                f"{name}: {len(copies)} of {len(images)} images are {split} images, pixel for pixel (the first is image"
                f" {place} of class {images.class_names[images.labels[first]]}); a generator may see the real images of"
                " its replicate alone: nothing is judged on images that leaked"
            )
    return LabeledImages(
        images.images,
        images.labels,
        images.class_names,
        {**images.provenance, "generator_sha256": file_sha256(path)},
    )
