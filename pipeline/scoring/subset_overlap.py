"""How much of their real images the replicates of a budget have in common, as they were drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.classifier.saved_cells import load_cells
from pipeline.study.subsets import replicate_number


def subset_overlaps(baselines: Path) -> dict[int, float]:
    """Replicate number → the mean share (0..1) of its real images that another replicate has too.

    Args:
        baselines: what `train_baselines` wrote. Its arm `real`, which every study has, was trained on the real
            subset and on nothing else.

    Raises:
        SynthGainError: as `load_cells`.
    """
    cells, _ = load_cells(baselines)
    pixels = {
        replicate_number(cell.facts["replicate"]): cell.real_pixels
        for cell in cells
        if cell.facts["arm"] == "real"
    }
    return mean_shares(pixels)


def mean_shares(sets: Mapping[int, npt.NDArray[np.int64]]) -> dict[int, float]:
    """Of each set the mean share of it that is in another one; 0 for a single set."""
    return {
        name: float(np.mean([np.isin(own, other).mean() for key, other in sets.items() if key != name]))
        if len(sets) > 1
        else 0.0
        for name, own in sets.items()
    }
