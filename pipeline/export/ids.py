"""The id of a sample: the same in every format."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def sample_ids(labels: npt.NDArray[np.int64]) -> list[str]:
    """`<label>-<index>` of each image: its label, and its place among the images of that label (six digits).

    Two exports of the same synthetic images give the same ids, in whichever format.
    """
    seen: dict[int, int] = {}
    ids = []
    for label in labels.tolist():
        index = seen.get(label, 0)
        seen[label] = index + 1
        ids.append(f"{label}-{index:06d}")
    return ids
