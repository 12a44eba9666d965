"""The augmentation policies that arms are made of: a name and the transforms it applies, in their order.

To add a policy of known transforms, add a row: its arms follow by a rule (`pipeline/study/arms.py`). Of arms that are
equally good, the one whose policy stands first is chosen. This file is data and imports nothing. How strong each
transform is, and what images may be mirrored, `augmentation` in params.yaml says. `mixup` stands last: it blends images
that the others have changed, and their labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Transform = Literal["flip", "shift", "affine", "elastic", "color", "trivial_augment", "mixup"]

POLICIES: Mapping[str, tuple[Transform, ...]] = {
    "none": (),
    "affine": ("affine",),
    "affine_elastic": ("affine", "elastic"),
    "shift": ("shift",),
    "flip_crop": ("flip", "shift"),
    "color": ("color",),
    "trivial_augment": ("trivial_augment",),
    "mixup": ("mixup",),
    "affine_elastic_mixup": ("affine", "elastic", "mixup"),
}
