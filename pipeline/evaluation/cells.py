"""The declared cells of a study, and reading them from the tables of `evaluate_classifiers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.arms import (
    ARMS,
    AUGMENTED_ARMS,
    BASELINE_ARMS,
    CONTROL_ARMS,
    FILL_ARMS,
    REMEDY_ARMS,
    Arm,
    Budget,
    declared_arms,
    positive_ratios,
)
from pipeline.errors import SynthGainError
from pipeline.params import Study

Ratio = int | float

METRICS = ("test_accuracy", "test_macro_f1")

ARM_WORDS = {
    "real": "real only",
    "real_affine": "real only, affine",
    "real_affine_elastic": "real only, affine + elastic",
    "synthetic": "real + synthetic",
    "synthetic_affine": "real + synthetic, affine",
    "synthetic_affine_elastic": "real + synthetic, affine + elastic",
    "synthetic_only": "synthetic only",
    "synthetic_filtered": "real + filtered synthetic",
    "synthetic_filtered_affine": "real + filtered synthetic, affine",
    "synthetic_filtered_affine_elastic": "real + filtered synthetic, affine + elastic",
    "synthetic_fresh": "real + fresh synthetic",
    "synthetic_fresh_affine": "real + fresh synthetic, affine",
    "synthetic_fresh_affine_elastic": "real + fresh synthetic, affine + elastic",
    "synthetic_fresh_filtered_affine_elastic": "real + fresh filtered synthetic, affine + elastic",
    "fill_repeat": "rare classes repeated",
    "class_weights": "rare classes weighted",
    "fill_affine": "rare classes repeated, copies affine",
    "fill_repeat_affine_elastic": "rare classes repeated, affine + elastic",
    "fill_extra_real": "rare classes + extra real",
    "fill_synthetic": "rare classes + synthetic",
    "fill_synthetic_affine_elastic": "rare classes + synthetic, affine + elastic",
    "repeat": "real, repeated",
    "extra_real": "real + extra real",
    "extra_real_affine_elastic": "real + extra real, affine + elastic",
}
_KEY = ["budget", "arm", "synthetic_per_real", "replicate"]
_VALIDATION_METRICS = ("validation_accuracy", "validation_macro_f1")
_CELL_COLUMNS = (
    *_KEY,
    "classic_augmentation",
    "real_images",
    "training_images",
    "optimizer_steps",
    "batch_size",
    "real_subset_sha256",
    *_VALIDATION_METRICS,
    *METRICS,
)
_CONFUSION_COLUMNS = (*_KEY, "actual", "predicted", "count")
_TEXT = ("budget", "arm", "classic_augmentation", "real_subset_sha256", "actual", "predicted")

CellKey = tuple[str, str, float, int]  # budget as text, arm, synthetic_per_real, replicate


@dataclass(frozen=True)
class DeclaredArm:
    """An arm of a study: its name, and how many images it has beyond the subset per real one (0: none)."""

    name: str
    synthetic_per_real: Ratio

    @property
    def recipe(self) -> Arm:
        """What it trains on, and how."""
        return ARMS[self.name]

    @property
    def classic_augmentation(self) -> str:
        """`none`, `affine` or `affine_elastic`."""
        return self.recipe.classic_augmentation

    @property
    def baseline(self) -> DeclaredArm | None:
        """The same training without what this arm adds; it is in every study that has this arm."""
        return DeclaredArm(self.recipe.baseline, 0) if self.recipe.baseline else None

    def __str__(self) -> str:
        ratio = f" at {self.synthetic_per_real}" if self.synthetic_per_real else ""
        return f"{ARM_WORDS[self.name]}{ratio}"


@dataclass(frozen=True)
class Grid:
    """The declared study: its cells are read, and no others.

    Attributes:
        budgets: as in `study.real_images`.
        ratios: as in `study.synthetic_per_real`; 0 stands for real only, which is always there.
        replicates: how many.
        arm_names: as in `study.arms`.
        imbalance: as in `study.imbalance`.
    """

    budgets: tuple[Budget, ...]
    ratios: tuple[Ratio, ...]
    replicates: int
    arm_names: tuple[str, ...]
    imbalance: Mapping[str, int | float] = field(default_factory=dict)

    @classmethod
    def declared(cls, study: Study) -> Grid:
        """The grid of the parameters."""
        return cls(
            tuple(study.real_images),
            tuple(study.synthetic_per_real),
            study.replicates,
            tuple(study.arms),
            study.imbalance,
        )

    @property
    def positive_ratios(self) -> list[Ratio]:
        """The ratios with synthetic images, ascending."""
        return sorted(positive_ratios(self.ratios))

    def classic_arms(self) -> list[DeclaredArm]:
        """The arms on the real subset alone."""
        return [DeclaredArm(arm.name, 0) for arm in declared_arms(BASELINE_ARMS, self.arm_names)]

    def fill_arms(self) -> list[DeclaredArm]:
        """The arms that bring rare classes up to the common count: a family of their own, without a ratio."""
        return [DeclaredArm(arm.name, 0) for arm in declared_arms((*REMEDY_ARMS, *FILL_ARMS), self.arm_names)]

    def added_arms(self) -> list[DeclaredArm]:
        """The arms of real and synthetic images, ratio by ratio."""
        return [
            arm
            for arm in self.arms()
            if arm.recipe.uses_real and arm.recipe.uses_synthetic and not arm.recipe.fills
        ]

    def arms(self) -> list[DeclaredArm]:
        """Every arm of a budget: the classic ones, those for rare classes, then ratio by ratio those with others."""
        with_others = declared_arms((*AUGMENTED_ARMS, *CONTROL_ARMS), self.arm_names)
        return [*self.classic_arms(), *self.fill_arms()] + [
            DeclaredArm(arm.name, ratio) for ratio in self.positive_ratios for arm in with_others
        ]

    def cells(self) -> list[CellKey]:
        """The key of every declared cell."""
        return [
            key for budget in self.budgets for arm in self.arms() for key in self.cells_of_arm(budget, arm)
        ]

    def cells_of_arm(self, budget: Budget, arm: DeclaredArm) -> list[CellKey]:
        """The keys of an arm's cells, replicate 0 first."""
        return [
            (str(budget), arm.name, float(arm.synthetic_per_real), replicate)
            for replicate in range(self.replicates)
        ]


def load_cells(path: Path, grid: Grid) -> tuple[pd.DataFrame, int]:
    """The declared rows of `cells.csv` in the order of `Grid.cells`, and how many other rows were ignored.

    An arm with extra real images may be missing as a whole (see `left_out_arms`), any other may not.

    Returns:
        The table (`budget` as text, counts and metrics as numbers), and the number of rows left out.

    Raises:
        SynthGainError: if the file is missing or damaged, if a declared cell is missing or doubled, or if
            arms to be compared differ in more than the arm (optimiser steps, batch size, real subset).
    """
    table = _read_table(path, _CELL_COLUMNS)
    keys = _require_declared(table, grid, path)
    order = {key: position for position, key in enumerate(grid.cells())}
    cells = table[[key in order for key in keys]]
    doubled = cells[cells.duplicated(_KEY)]
    if len(doubled):
        raise SynthGainError(f"{path}: two rows for {_words(_keys(doubled)[0])}; make it again")
    cells = cells.iloc[np.argsort([order[key] for key in _keys(cells)])].reset_index(drop=True)
    _require_metrics(cells, path)
    _require_equal_training(cells, path)
    return cells, len(table) - len(cells)


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


def trained_arms(cells: pd.DataFrame, grid: Grid, budget: Budget) -> list[DeclaredArm]:
    """The arms of a budget that have cells."""
    return [arm for arm in grid.arms() if len(rows_of_arm(cells, budget, arm))]


def left_out_arms(cells: pd.DataFrame, grid: Grid, budget: Budget) -> list[DeclaredArm]:
    """The arms of a budget without cells: the train split has too few other real images for them."""
    return [arm for arm in grid.arms() if not len(rows_of_arm(cells, budget, arm))]


def count_test_images(confusion: pd.DataFrame) -> int:
    """How many test images each cell was judged on.

    Raises:
        SynthGainError: if cells were judged on different numbers of test images.
    """
    sizes = confusion.groupby(_KEY)["count"].sum()
    if sizes.nunique() != 1:
        raise SynthGainError(
            f"confusion: cells were judged on {sizes.min()} to {sizes.max()} test images; run `dvc repro`"
        )
    return int(sizes.iloc[0])


def rows_of_arm(table: pd.DataFrame, budget: Budget, arm: DeclaredArm) -> pd.DataFrame:
    """The rows of one arm of a budget, in the order of the replicates (stable within one)."""
    chosen = (
        (table["budget"] == str(budget))
        & (table["arm"] == arm.name)
        & (table["synthetic_per_real"] == float(arm.synthetic_per_real))
    )
    return table[chosen].sort_values("replicate", kind="stable")


def cell_values(
    cells: pd.DataFrame, budget: Budget, arm: DeclaredArm, column: str
) -> npt.NDArray[np.float64]:
    """(replicates,) float64: one column of an arm, in the order of the replicates."""
    return rows_of_arm(cells, budget, arm)[column].to_numpy(np.float64)


def _require_declared(table: pd.DataFrame, grid: Grid, path: Path) -> list[CellKey]:
    """The key of each row, after a check that every declared cell is among them."""
    keys = _keys(table)
    found = set(keys)
    missing = []
    for budget in grid.budgets:
        for arm in grid.arms():
            lacking = [key for key in grid.cells_of_arm(budget, arm) if key not in found]
            if not (arm.recipe.uses_extra and len(lacking) == grid.replicates):
                missing += lacking
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise SynthGainError(f"{path}: no row for {_words(missing[0])}{more}; `dvc repro` makes it")
    return keys


def _require_metrics(cells: pd.DataFrame, path: Path) -> None:
    metrics = cells[[*_VALIDATION_METRICS, *METRICS]]
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
