"""Everything that the page shows, read from the files of the declared study."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from pipeline.comparison.cells import load_cells, load_confusion, rows_of_arm
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.study.grid import DeclaredArm, Grid
from pipeline.study.subsets import Budget, replicate_numbers

_HISTORY_COLUMNS = ("replicate", "images_seen", "d_loss", "g_loss", "d_accuracy", "label_fidelity_1nn")
_OPTIONAL_HISTORY_COLUMNS = ("d_accuracy_real", "d_accuracy_fake")


@dataclass(frozen=True)
class BudgetResults:
    """What the files say about one budget."""

    budget: Budget
    judged: Mapping[str, Any]  # its row of comparison.json
    generative: Mapping[str, Any]  # metrics/synthetic/<budget>.json
    history: pd.DataFrame
    synthetic: Sequence[LabeledImages]  # per replicate
    film_strips: Sequence[bytes]  # PNG, per replicate

    @property
    def classic(self) -> DeclaredArm:
        """The classic arm that validation chose."""
        return _arm(self.judged["best_classic"])

    @property
    def best_synthetic(self) -> DeclaredArm | None:
        """The arm with synthetic images that validation chose; None where none was trained."""
        return _arm(self.judged["best_synthetic"]) if self.judged["best_synthetic"] else None

    @property
    def recommended(self) -> DeclaredArm:
        """One of these two."""
        return _arm(self.judged["recommended"])


@dataclass(frozen=True)
class Results:
    """Everything that the page shows."""

    grid: Grid
    comparison: Mapping[str, Any]
    cells: pd.DataFrame
    confusion: pd.DataFrame
    train: LabeledImages
    splits: Mapping[str, Any]
    budgets: Sequence[BudgetResults]
    files: Mapping[str, str] = field(default_factory=dict)  # name → SHA-256 of the tables that were read
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order."""
        return self.train.class_names

    def confusion_counts(self, budget: Budget, arm: DeclaredArm) -> npt.NDArray[np.int64]:
        """(classes, classes): test predictions of an arm, summed over replicates; rows are actual classes."""
        names = list(self.class_names)
        table = rows_of_arm(self.confusion, budget, arm).pivot_table(
            index="actual", columns="predicted", values="count", aggfunc="sum"
        )
        counts: npt.NDArray[np.int64] = (
            table.reindex(index=names, columns=names).fillna(0).to_numpy().astype(np.int64)
        )
        return counts

    def arm_rows(self, budget: Budget) -> list[Mapping[str, Any]]:
        """The trained arms of a budget, as `comparison.json` has them."""
        return [row for row in self.comparison["arms"] if row["budget"] == budget]

    def arm_row(self, budget: Budget, arm: DeclaredArm) -> Mapping[str, Any]:
        """One of them."""
        return next(row for row in self.arm_rows(budget) if _arm(row) == arm)


def load_results(
    *, metrics: Path, gan: Path, synthetic: Path, prepared: Path, grid: Grid, settings: Mapping[str, Any]
) -> Results:
    """Read the results of the declared study; files of anything else are not looked at.

    Args:
        metrics: holds `cells.csv`, `confusion.csv`, `comparison.json`, `gan/<budget>.csv`,
            `synthetic/<budget>.json`.
        gan: holds `<budget>/<replicate>/film_strip.png`.
        synthetic: holds `<budget>/<replicate>.npz`.
        prepared: holds `train.npz` and `splits.json`.
        grid: the declared study.
        settings: the parameters, for the appendix.

    Raises:
        SynthGainError: if a file is missing or damaged, or belongs to another study than the declared one.
    """
    comparison_file = metrics / "comparison.json"
    comparison = _read_json(
        comparison_file,
        needed=("arms", "left_out", "comparisons", "budgets", "reading", "test_sampling_error"),
    )
    declared = [(budget, arm.name, arm.synthetic_per_real) for budget in grid.budgets for arm in grid.arms()]
    found = [
        (row["budget"], row["arm"], row["synthetic_per_real"])
        for row in (*comparison["arms"], *comparison["left_out"])
    ]
    if sorted(found, key=str) != sorted(declared, key=str) or comparison["replicates"] != grid.replicates:
        raise SynthGainError(
            f"{comparison_file}: compares another study than params.yaml declares; `dvc repro` compares again"
        )
    budgets = [
        BudgetResults(
            budget,
            judged,
            _read_generative(metrics / f"synthetic/{budget}.json", grid.replicates),
            _read_history(metrics / f"gan/{budget}.csv", grid.replicates),
            [LabeledImages.load(synthetic / f"{budget}/{i}.npz") for i in range(grid.replicates)],
            [_read_png(gan / f"{budget}/{i}/film_strip.png") for i in range(grid.replicates)],
        )
        for budget, judged in zip(grid.budgets, comparison["budgets"], strict=True)
    ]
    names = ("cells.csv", "confusion.csv", "comparison.json")
    results = Results(
        grid=grid,
        comparison=comparison,
        cells=load_cells(metrics / "cells.csv", grid)[0],
        confusion=load_confusion(metrics / "confusion.csv", grid),
        train=LabeledImages.load(prepared / "train.npz"),
        splits=_read_json(prepared / "splits.json", needed=("splits",)),
        budgets=budgets,
        files={name: hashlib.sha256((metrics / name).read_bytes()).hexdigest() for name in names},
        settings=settings,
    )
    for name in results.class_names:
        if f"test_f1_{name}" not in results.cells:
            raise SynthGainError(
                f"{metrics / 'cells.csv'}: no column test_f1_{name}, a class of {prepared / 'train.npz'};"
                " `dvc repro` brings both up to date"
            )
    return results


def _arm(key: Mapping[str, Any]) -> DeclaredArm:
    return DeclaredArm(key["arm"], key["synthetic_per_real"])


def _read_json(path: Path, *, needed: Sequence[str]) -> dict[str, Any]:
    try:
        values = json.loads(_read_bytes(path))
    except ValueError as error:
        raise SynthGainError(f"{path}: not valid JSON ({error}); make it again") from None
    missing = [key for key in needed if not isinstance(values, dict) or key not in values]
    if missing:
        raise SynthGainError(f"{path}: no {', '.join(missing)}; `dvc repro` makes it again")
    return dict(values)


def _read_generative(path: Path, replicates: int) -> dict[str, Any]:
    """The metrics of a budget's synthetic images, of its declared replicates only."""
    values = _read_json(path, needed=("replicates", "floor", "copycat", "n"))
    declared = [str(replicate) for replicate in replicate_numbers(replicates)]
    missing = [replicate for replicate in declared if replicate not in values["replicates"]]
    if missing:
        raise SynthGainError(f"{path}: no replicate {', '.join(missing)}; `dvc repro` makes it again")
    return values | {"replicates": {name: values["replicates"][name] for name in declared}}


def _read_history(path: Path, replicates: int) -> pd.DataFrame:
    try:
        table = pd.read_csv(io.BytesIO(_read_bytes(path)))
        optional = [column for column in _OPTIONAL_HISTORY_COLUMNS if column in table]
        history = table[[*_HISTORY_COLUMNS, *optional]]
    except (ValueError, KeyError) as error:
        raise SynthGainError(
            f"{path}: not a training history ({error}); `dvc repro` makes it again"
        ) from None
    history = history[history["replicate"].isin(replicate_numbers(replicates))]
    if history["replicate"].nunique() < replicates:
        raise SynthGainError(f"{path}: not every replicate of 1..{replicates} is there; run `dvc repro`")
    return history


def _read_png(path: Path) -> bytes:
    png = _read_bytes(path)
    try:
        with Image.open(io.BytesIO(png)) as image:
            image.load()
    except OSError as error:
        raise SynthGainError(f"{path}: not a readable picture ({error}); `dvc repro` makes it") from None
    return png


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise SynthGainError(f"{path}: no such file; `dvc repro` makes it") from None
