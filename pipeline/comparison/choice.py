"""Choosing an arm on validation without crediting it with the luck that chose it.

The best of several arms on validation is also a lucky one, and its luck is not left behind on validation: the networks
that are judged on test are the same, and what their seeds and subsets gave them shows on both splits. So no replicate
may be judged by an arm that it helped to choose.

Leaving out the replicate that is judged is not enough. Replicate 1 is then judged by a choice that replicate 2 had a
part in, and the reverse: where arms are about equally good, all choices follow the same luck, the differences of the
replicates are correlated, and their spread is too small for the error of their mean. With ten arms without any effect
such an interval lay above 0 in up to 6 % of simulated studies, where 2.5 % are promised.

So **each replicate is judged by the arms that the replicates before it choose**; the first one only chooses. Given
those before it, a replicate's difference has the mean of the arms that they chose: differences are a martingale's, and
uncorrelated. If the arms have equal spreads and no effect, they are exactly what Student's t-test wants; with unequal
spreads it keeps its level from above (Benjamini 1983, "Is the t test really conservative when the parent distribution
is long-tailed?", JASA 78). The idea is the prequential principle (Dawid 1984, JRSS A 147); for inference after a choice
among equals: Luedtke and van der Laan 2016, "Statistical inference for the mean outcome under a possibly non-unique
optimal treatment strategy", Annals of Statistics 44(2). `benchmarks/verdict.py` shows the rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.comparison.cells import cell_values
from pipeline.study.grid import DeclaredArm
from pipeline.study.subsets import Budget

_DECIMALS = 6  # so that the last bit of a sum decides no tie
NOTHING = -1  # what the first replicate of several is judged by, where there is a choice


@dataclass(frozen=True)
class Choice:
    """What validation chooses.

    Attributes:
        arm: on all replicates: the one to recommend.
        before: for each replicate in order, on those before it: the one to judge it by. None for the first one, which
            has none before it and only chooses. Where there is one arm or one replicate, nothing is chosen by luck, or
            nothing can be said: `arm` judges.
    """

    arm: DeclaredArm
    before: tuple[DeclaredArm | None, ...]


def choose(cells: pd.DataFrame, budget: Budget, arms: Sequence[DeclaredArm], column: str) -> Choice:
    """The arm with the highest mean of a column; of equal ones the first.

    Args:
        cells: a row per cell.
        budget: whose cells.
        arms: at least one, with as many replicates each, those to be preferred first.
        column: of validation.
    """
    values = np.stack([cell_values(cells, budget, arm, column) for arm in arms])
    before = rows_before(values).tolist()
    return Choice(arms[int(best_row(values))], tuple(None if row == NOTHING else arms[row] for row in before))


def best_row(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """(...) int64: the row of (..., rows, replicates) with the highest mean; of equal ones the first."""
    best: npt.NDArray[np.int64] = values.mean(axis=-1).round(_DECIMALS).argmax(axis=-1)
    return best


def rows_before(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """(..., replicates) int64: for each replicate, the `best_row` of those before it.

    `NOTHING` for the first of several; with one row or one replicate, that row, or the best one.

    Args:
        values: (..., rows, replicates) of validation.
    """
    rows, replicates = values.shape[-2:]
    if rows == 1 or replicates == 1:
        return np.broadcast_to(best_row(values)[..., None], (*values.shape[:-2], replicates))
    means = np.cumsum(values, axis=-1)[..., :-1] / np.arange(1, replicates)
    chosen = means.round(_DECIMALS).argmax(axis=-2)
    first = np.full((*chosen.shape[:-1], 1), NOTHING)
    return np.concatenate([first, chosen], axis=-1)


def judged_differences(
    cells: pd.DataFrame,
    budget: Budget,
    candidates: Sequence[DeclaredArm | None],
    baselines: Sequence[DeclaredArm | None],
    column: str,
) -> npt.NDArray[np.float64]:
    """(judged replicates,) candidate − baseline in a column, of each replicate the two arms of `Choice.before`."""

    def value(arm: DeclaredArm, replicate: int) -> float:
        return float(cell_values(cells, budget, arm, column)[replicate])

    return np.array(
        [
            value(after, replicate) - value(before, replicate)
            for replicate, (before, after) in enumerate(zip(baselines, candidates, strict=True))
            if before is not None and after is not None
        ]
    )
