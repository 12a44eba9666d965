"""How many extra real images one synthetic image is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison.judgement import place_of
from pipeline.comparison.rows import arm_key, paired_arms, paired_columns, rounded
from pipeline.study.arms import ARMS
from pipeline.study.grid import DeclaredArm
from pipeline.study.subsets import Budget


def real_image_equivalents(
    cells: pd.DataFrame, budget: Budget, arms: Sequence[DeclaredArm], column: str
) -> list[dict[str, Any]]:
    """How many extra real images a synthetic one is worth, arm by arm and ratio by ratio.

    The gain of extra real images over the same baseline, as a line through its means from 0 images on, says at
    how many real images it is as large as the gain of the synthetic ones. Only a gain whose interval lies
    above 0 has a worth. An end of the interval, or the gain itself, beyond the most extra real images that
    were tried has none: it is larger than that.

    Args:
        cells: a row per cell.
        budget: whose cells.
        arms: that were trained.
        column: of test, by which gains are measured.
    """
    rows = []
    names = dict.fromkeys(arm.name for arm in arms if arm.recipe.upper_bound and not arm.recipe.rare_only)
    for extra_name in names:
        extras = [arm for arm in arms if arm.name == extra_name]
        gains = [_gain(cells, budget, arm, column)["mean_difference"] for arm in extras]
        real_per_real = [0.0, *(float(arm.synthetic_per_real) for arm in extras)]
        # More real images are never worth less: a dip of the means is noise.
        line = np.maximum.accumulate([0.0, *gains])
        for arm in arms:
            if arm.name != ARMS[extra_name].upper_bound:
                continue
            gain = _gain(cells, budget, arm, column)
            is_gain = place_of(gain["low"], gain["high"]) == "above"
            rows.append(
                {
                    "budget": budget,
                    **arm_key(arm),
                    "upper_bound": extra_name,
                    "most_extra_real_per_real": real_per_real[-1],
                    **{
                        name: _equivalent(gain[key], line, real_per_real, arm) if is_gain else None
                        for name, key in (
                            ("real_images_per_synthetic", "mean_difference"),
                            ("low", "low"),
                            ("high", "high"),
                        )
                    },
                }
            )
    return rows


def _gain(cells: pd.DataFrame, budget: Budget, arm: DeclaredArm, column: str) -> dict[str, Any]:
    assert arm.baseline is not None  # every arm with other images has one
    return paired_columns(paired_arms(cells, budget, arm, arm.baseline, column))


def _equivalent(gain: float, line: Any, real_per_real: Sequence[float], arm: DeclaredArm) -> float | None:
    """Where the rising line reaches the gain, per synthetic image; None beyond its end."""
    if gain > line[-1]:
        return None
    reached = int(np.searchsorted(line, gain))  # the first point that is as high
    if reached == 0:
        return 0.0
    below, above = line[reached - 1], line[reached]
    share = (gain - below) / (above - below)
    real_images = real_per_real[reached - 1] + share * (real_per_real[reached] - real_per_real[reached - 1])
    return rounded(float(real_images / arm.synthetic_per_real))
