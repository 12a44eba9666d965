"""The cells of a study, read from the tables of `evaluate_classifiers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.errors import SynthGainError
from pipeline.study.grid import CellKey, DeclaredArm, Grid
from pipeline.study.metric import Metric, few_labels_column, measured
from pipeline.study.subsets import Budget

KEY_COLUMNS = ["budget", "arm", "synthetic_per_real", "replicate"]
_CELL_COLUMNS = (
    *KEY_COLUMNS,
    "classic_augmentation",
    "real_images",
    "training_images",
    "optimizer_steps",
    "batch_size",
    "real_subset_sha256",
)
_CONFUSION_COLUMNS = (*KEY_COLUMNS, "actual", "predicted", "count")
_TEXT = ("budget", "arm", "classic_augmentation", "real_subset_sha256", "actual", "predicted")


def load_cells(path: Path, grid: Grid) -> tuple[pd.DataFrame, int]:
    """The declared rows of `cells.csv` in the order of `Grid.cells`, and how many that are not declared were ignored.

    Rows of replicates that are left out, because a GAN of theirs collapsed, are neither. An arm with extra real images,
    or with pseudo-labels, may be missing as a whole (see `left_out_arms`), any other may not.

    Returns:
        The table (`budget` as text, counts and metrics as numbers), and the number of undeclared rows.

    Raises:
        SynthGainError: if the file is missing or damaged, if a declared cell is missing or doubled, or if
            arms to be compared differ in more than the arm (optimiser steps, batch size, real subset).
    """
    scores = [f"{split}_{name}" for split in ("validation", "test") for name in measured(grid.metric)]
    table = _with_later_columns(_read_table(path, [*_CELL_COLUMNS, *scores]), grid.metric)
    keys = _require_declared(table, grid, path)
    order = {key: position for position, key in enumerate(grid.cells())}
    cells = table[[key in order for key in keys]]
    doubled = cells[cells.duplicated(KEY_COLUMNS)]
    if len(doubled):
        raise SynthGainError(f"{path}: two rows for {_words(_keys(doubled)[0])}; make it again")
    cells = cells.iloc[np.argsort([order[key] for key in _keys(cells)])].reset_index(drop=True)
    _require_metrics(cells, [few_labels_column(grid.metric), *scores], path)
    _require_equal_training(cells, path)
    declared = set(replace(grid, gans={}).cells())
    return cells, sum(key not in declared for key in keys)


def load_confusion(path: Path, grid: Grid) -> pd.DataFrame:
    """The declared rows of `confusion.csv`: key of the cell, `actual`, `predicted` (class names), `count`.

    Arms may be missing as in `load_cells`.

    Raises:
        SynthGainError: if the file is missing or damaged, or holds nothing of a declared cell.
    """
    table = _read_table(path, _CONFUSION_COLUMNS)
    keys = _require_declared(table, grid, path)
    declared = set(grid.cells())
    return table[[key in declared for key in keys]].reset_index(drop=True)


def _with_later_columns(table: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """A table with what version 0.1.0 did not write: it compared as if no images were shared and all labels chose."""
    defaults: dict[str, Any] = {
        "real_subset_overlap": 0.0,
        "validation_images": 0,
        few_labels_column(metric): table[f"validation_{metric}"],
    }
    return table.assign(**{name: value for name, value in defaults.items() if name not in table})


def trained_arms(cells: pd.DataFrame, grid: Grid, budget: Budget) -> list[DeclaredArm]:
    """The arms of a budget that have cells."""
    return [arm for arm in grid.arms() if len(_places(cells, budget, arm))]


def left_out_arms(cells: pd.DataFrame, grid: Grid, budget: Budget) -> list[DeclaredArm]:
    """The arms of a budget without cells: too few other real images for them, or self-training collapsed."""
    return [arm for arm in grid.arms() if not len(_places(cells, budget, arm))]


def count_test_images(confusion: pd.DataFrame) -> int:
    """How many test images each cell was judged on.

    Raises:
        SynthGainError: if cells were judged on different numbers of test images.
    """
    sizes = confusion.groupby(KEY_COLUMNS)["count"].sum()
    if sizes.nunique() != 1:
        raise SynthGainError(
            f"confusion: cells were judged on {sizes.min()} to {sizes.max()} test images; run `dvc repro`"
        )
    return int(sizes.iloc[0])


def rows_of_arm(table: pd.DataFrame, budget: Budget, arm: DeclaredArm) -> pd.DataFrame:
    """The rows of one arm of a budget, in the order of the replicates (stable within one)."""
    return table.iloc[_places(table, budget, arm)]


def cell_values(
    cells: pd.DataFrame, budget: Budget, arm: DeclaredArm, column: str
) -> npt.NDArray[np.float64]:
    """(replicates,) float64: one column of an arm, in the order of the replicates."""
    return cells[column].to_numpy(np.float64)[_places(cells, budget, arm)]


def _places(table: pd.DataFrame, budget: Budget, arm: DeclaredArm) -> npt.NDArray[np.intp]:
    """Where the rows of an arm are, as `rows_of_arm` orders them. Of NumPy: it is asked hundreds of times."""
    chosen = np.flatnonzero(
        (table["arm"].to_numpy() == arm.name)
        & (table["budget"].to_numpy() == str(budget))
        & (table["synthetic_per_real"].to_numpy() == float(arm.synthetic_per_real))
    )
    return chosen[np.argsort(table["replicate"].to_numpy()[chosen], kind="stable")]


def subset_overlap(cells: pd.DataFrame, budget: Budget) -> float:
    """0..1: the mean share of a budget's real images that two of its replicates have in common, as they were drawn."""
    return round(float(cells.loc[cells["budget"] == str(budget), "real_subset_overlap"].mean()), 6)


def labels_that_choose(cells: pd.DataFrame, budget: Budget) -> tuple[int, int]:
    """How many validation images choose for a budget, and how many labelled training images a replicate has."""
    row = cells[cells["budget"] == str(budget)].iloc[0]
    return int(row["validation_images"]), int(row["real_images"])


def _require_declared(table: pd.DataFrame, grid: Grid, path: Path) -> list[CellKey]:
    """The key of each row, after a check that every declared cell is among them."""
    keys = _keys(table)
    found = set(keys)
    missing = []
    for budget in grid.budgets:
        for arm in grid.arms():
            lacking = [key for key in grid.cells_of_arm(budget, arm) if key not in found]
            if not (arm.recipe.may_be_left_out and len(lacking) == len(grid.replicates_of(budget))):
                missing += lacking
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise SynthGainError(f"{path}: no row for {_words(missing[0])}{more}; `dvc repro` makes it")
    return keys


def _require_metrics(cells: pd.DataFrame, columns: Sequence[str], path: Path) -> None:
    metrics = cells[[*columns]]
    outside = cells[~((metrics >= 0) & (metrics <= 1)).all(axis=1)]
    if len(outside):
        raise SynthGainError(f"{path}: a metric outside 0..1 in {_words(_keys(outside)[0])}; make it again")


def _require_equal_training(cells: pd.DataFrame, path: Path) -> None:
    """Arms may differ in nothing but the arm."""
    for budget in cells["budget"].unique():
        rows = cells[cells["budget"] == budget]
        for column in ("optimizer_steps", "batch_size"):
            values = sorted(rows[column].unique().tolist())
            if len(values) > 1:
                raise SynthGainError(
                    f"{path}: budget {budget} has {column} {values}; every arm must train equally long,"
                    " or more data is only more training; run `dvc repro`, and if it finds nothing to do,"
                    " `dvc repro --force --single-item` for the stages of these arms (train_baselines, …)"
                )
        for replicate in rows["replicate"].unique():
            subsets = rows.loc[rows["replicate"] == replicate, "real_subset_sha256"].nunique()
            if subsets > 1:
                raise SynthGainError(
                    f"{path}: budget {budget}, replicate {replicate} has arms from {subsets} real subsets"
                    " (real_subset_sha256); a paired comparison needs one; run `dvc repro`, and if it finds"
                    " nothing to do, `dvc repro --force --single-item` for the stages of these arms"
                )


def _keys(table: pd.DataFrame) -> list[CellKey]:
    return list(
        zip(
            table["budget"].astype(str),
            table["arm"].astype(str),
            table["synthetic_per_real"].astype(float),
            table["replicate"].astype(int),
            strict=True,
        )
    )


def _words(key: CellKey) -> str:
    budget, arm, ratio, replicate = key
    return f"the cell budget {budget}, arm {arm}, synthetic_per_real {ratio:g}, replicate {replicate}"


def _read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file with at least these columns; text stays text (a class may be called 7, NA or null)."""
    text: dict[Any, type] = dict.fromkeys(_TEXT, str)
    try:
        table = pd.read_csv(path, dtype=text, keep_default_na=False)
    except FileNotFoundError:
        raise SynthGainError(f"{path}: no such file; `dvc repro` makes it") from None
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        reason = " ".join(str(error).split())
        raise SynthGainError(f"{path}: not a readable table ({reason}); make it again") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise SynthGainError(f"{path}: no column {', '.join(missing)}; make it again")
    for column in columns:
        if column not in _TEXT and not pd.api.types.is_numeric_dtype(table[column]):
            raise SynthGainError(f"{path}: column {column} holds text where numbers belong; make it again")
    return table
