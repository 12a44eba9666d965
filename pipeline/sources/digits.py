"""The handwritten digits embedded in scikit-learn: 1797 real images, no network.

They are the test part of "Optical Recognition of Handwritten Digits" (UCI, 1998): 8 × 8 pixels, 17 greys.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages, index_sha256, stratified_indices
from pipeline.sources.convert import to_square

RAW_FILE = "digits.npz"
TEST_IMAGES = 400
# Fixed like a published split: the test images are the same for every `seed` of a study.
_SPLIT_SEED = 0


def write_raw(out: Path) -> None:
    """Write `digits.npz`: (1797, 1, 8, 8) uint8 in 0..16, as scikit-learn has them, in its order."""
    digits = load_digits()
    LabeledImages(
        digits.images.astype(np.uint8)[:, np.newaxis],
        digits.target.astype(np.int64),
        tuple(str(name) for name in digits.target_names),
        {"kind": "real", "source": "digits", "values": "0..16"},
    ).save(out / RAW_FILE)


def load(raw: Path, *, image_size: int) -> tuple[LabeledImages, LabeledImages]:
    """1397 train and 400 test images, (N, 1, image_size, image_size) uint8 in 0..255.

    Values are scaled by 255/16 and resized with bicubic interpolation. The data set has no published split:
    this one is stratified by class and always the same. The same writers are in both parts.

    Raises:
        SynthGainError: if the raw file is missing or not what `write_raw` wrote.
    """
    small = LabeledImages.load(raw / RAW_FILE)
    if small.images.shape[1:] != (1, 8, 8) or small.images.max() > 16:
        raise SynthGainError(f"{raw / RAW_FILE}: not the embedded digits; run the `download` stage again")
    grey = small.images[:, 0].astype(np.float32) * np.float32(255 / 16)
    images = np.stack([to_square(image, image_size) for image in grey])[:, np.newaxis]
    test = stratified_indices(
        small.labels, TEST_IMAGES, small.num_classes, np.random.default_rng(_SPLIT_SEED)
    )
    train = np.setdiff1d(np.arange(len(small)), test)
    everything = LabeledImages(images, small.labels, small.class_names)
    shared = {
        "kind": "real",
        "source": "digits",
        "conversion": "values × 255/16, bicubic from 8 × 8",
        "held_out_index_sha256": index_sha256(test),
    }
    return (
        everything.subset(train, {**shared, "published_split": "train"}),
        everything.subset(test, {**shared, "published_split": "test"}),
    )
