"""Every classifier that a study declares, scored on validation and test: the tables of a study's cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.images import LabeledImages
from pipeline.params import Execution
from pipeline.scoring.cell_rows import cell_row, confusion_rows, few_of_validation
from pipeline.scoring.prediction import predictions_of_cells
from pipeline.scoring.subset_overlap import subset_overlaps
from pipeline.study.grid import positive_ratios
from pipeline.study.metric import Metric
from pipeline.study.subsets import Budget, replicate_number


@dataclass(frozen=True, eq=False)
class ScoredCells:
    """The scores of a study's cells.

    Attributes:
        cells: `cells.csv`, a row per cell, six decimals.
        confusion: `confusion.csv`, the confusion counts of every cell on test.
        judged: the facts of each cell and what it says (N,) of each test image: what a judgement on test is about.
    """

    cells: pd.DataFrame
    confusion: pd.DataFrame
    judged: list[tuple[Mapping[str, Any], npt.NDArray[np.int64]]]


def score_cells(
    classifiers: Path,
    *,
    budgets: Sequence[Budget],
    ratios: Sequence[float],
    metric: Metric,
    validation: LabeledImages,
    test: LabeledImages,
    seed: int,
    execution: Execution,
) -> ScoredCells:
    """Score the cells that the study declares, and only those.

    Args:
        classifiers: folder of the trained cells, as the stages that train them wrote it.
        budgets, ratios, metric: `study.real_images`, `study.synthetic_per_real` and `study.metric`.
        validation, test: the splits.
        seed: of the study.
        execution: where to compute.

    Raises:
        SynthGainError: if a file is missing or damaged, or an image of a split had a part in a cell.
    """
    few = {budget: few_of_validation(validation, budget, seed=seed) for budget in budgets}
    overlaps = {
        budget: subset_overlaps(classifiers / str(budget) / "baselines.safetensors") for budget in budgets
    }
    rows, confusions, judged = [], [], []
    splits = {"validation": validation.images, "test": test.images}
    files = _files(classifiers, budgets, ratios)
    for facts, seen in predictions_of_cells(files, splits, execution=execution):
        rows.append(
            cell_row(
                facts,
                metric=metric,
                subset_overlap=overlaps[facts["budget"]][replicate_number(facts["replicate"])],
                few=few[facts["budget"]],
                validation=validation,
                validation_predictions=seen["validation"],
                test=test,
                test_predictions=seen["test"],
            )
        )
        confusions += confusion_rows(facts, test=test, test_predictions=seen["test"])
        judged.append((facts, seen["test"]))
    return ScoredCells(pd.DataFrame(rows).round(6), pd.DataFrame(confusions), judged)


def _files(classifiers: Path, budgets: Sequence[Budget], ratios: Sequence[float]) -> list[Path]:
    """The files of all cells, budget by budget."""
    files = []
    for budget in budgets:
        folder = classifiers / str(budget)
        files += [folder / f"{kind}.safetensors" for kind in ("baselines", "fill", "pool")]
        files += [
            folder / kind / f"{ratio}.safetensors"
            for ratio in positive_ratios(ratios)
            for kind in ("augmented", "controls")
        ]
    return files
