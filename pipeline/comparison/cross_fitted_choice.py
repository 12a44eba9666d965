"""Choosing an arm on validation without crediting it with the luck that chose it.

The best of several arms on validation is also a lucky one, and its luck is not left behind on validation: the networks
that are judged on test are the same, and what their seeds and subsets gave them shows on both splits. Judged on the
replicates that chose it, an arm without any effect gains a twentieth of a point with 100 real images
(`benchmarks/verdict.py`), and its interval lies above 0 twice as often as it should.

So the choice is cross-fitted: replicate i is judged by the arms that validation chooses on all other replicates
(leave-one-out; as in nested cross-validation: Varma and Simon 2006, "Bias in error estimation when using
cross-validation for model selection", BMC Bioinformatics 7:91). The mean of these differences has no bias of choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.comparison.cells import cell_values
from pipeline.statistics import PairedTest, paired_test
from pipeline.study.grid import DeclaredArm
from pipeline.study.subsets import Budget

_DECIMALS = 6  # so that the last bit of a sum decides no tie


@dataclass(frozen=True)
class Choice:
    """What validation chooses.

    Attributes:
        arm: on all replicates: the one to recommend.
        without: for each replicate in order, on all others: the one to judge it by. A single replicate has no
            others, and is judged by what it chose.
    """

    arm: DeclaredArm
    without: tuple[DeclaredArm, ...]


def choose(cells: pd.DataFrame, budget: Budget, arms: Sequence[DeclaredArm], column: str) -> Choice:
    """The arm with the highest mean of a column; of equal ones the first.

    Args:
        cells: a row per cell.
        budget: whose cells.
        arms: at least one, with as many replicates each, those to be preferred first.
        column: of validation.
    """
    best, without = best_rows(np.stack([cell_values(cells, budget, arm, column) for arm in arms]))
    return Choice(arms[best], tuple(arms[row] for row in without))


def best_rows(values: npt.NDArray[np.float64]) -> tuple[int, list[int]]:
    """The row of (rows, replicates) with the highest mean; and for each replicate, the one on all others."""

    def best(replicates: Sequence[int]) -> int:
        return int(values[:, replicates].mean(axis=1).round(_DECIMALS).argmax())

    replicates = range(values.shape[1])
    others = [[j for j in replicates if j != i] or [i] for i in replicates]
    return best(replicates), [best(chosen_by) for chosen_by in others]


def paired_choices(
    cells: pd.DataFrame,
    budget: Budget,
    candidates: Sequence[DeclaredArm],
    baselines: Sequence[DeclaredArm],
    column: str,
) -> PairedTest:
    """The paired comparison of two arms of each replicate, as `Choice.without` has them."""
    values = {arm: cell_values(cells, budget, arm, column) for arm in {*baselines, *candidates}}
    before, after = (
        [values[arm][replicate] for replicate, arm in enumerate(arms)] for arms in (baselines, candidates)
    )
    return paired_test(baseline=before, candidate=after)
