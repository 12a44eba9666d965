"""The augmentation policies that arms are made of: a name and the transforms it applies, in their order.

To add a policy of known transforms, add a row. This file is data and imports nothing: see `pipeline/study/arms.py`.
How strong each transform is, `augmentation` in params.yaml says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Transform = Literal["affine", "elastic"]

POLICIES: Mapping[str, tuple[Transform, ...]] = {
    "none": (),
    "affine": ("affine",),
    "affine_elastic": ("affine", "elastic"),
}
