"""The results of the declared study, read once from its files: what the page, MLflow and the docs show.

Tables are read when they are first asked for, and images too, one file at a time. Replicates are counted from 1.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from pipeline.comparison.cells import load_cells, load_confusion, rows_of_arm
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.study.grid import DeclaredArm, DeclaredStudy, Grid
from pipeline.study.subsets import Budget, replicate_index
from pipeline.study.trained_gans import trained_gans

_HISTORY_COLUMNS = ("replicate", "images_seen", "d_loss", "g_loss", "d_accuracy", "label_fidelity_1nn")
_TABLES = ("cells.csv", "confusion.csv", "comparison.json")


@dataclass(frozen=True, eq=False)
class ResultFolders:
    """Where the results of a study lie.

    Attributes:
        metrics: holds `cells.csv`, `confusion.csv`, `comparison.json`, `gan/<budget>.csv` and
            `synthetic/<budget>.json`; `collapsed/<budget>.json` where GANs collapsed.
        gan: holds `<budget>/<replicate index>/film_strip.png`.
        synthetic: holds `<budget>/<replicate index>.npz`.
        prepared: holds `train.npz` and `splits.json`.
    """

    metrics: Path
    gan: Path
    synthetic: Path
    prepared: Path

    @classmethod
    def within(cls, data: Path) -> ResultFolders:
        """As dvc.yaml lays them out in a folder `data`."""
        return cls(data / "metrics", data / "gan", data / "synthetic", data / "prepared")


@dataclass(frozen=True, eq=False)
class ReplicateResults:
    """What the files say about one replicate of a budget.

    Attributes:
        number: from 1.
        synthetic_file: its synthetic images.
        film_strip_file: the same latents over the training of its GAN (PNG); None of another generator.
        scores: its row of `metrics/synthetic/<budget>.json`.
        history: its rows of `metrics/gan/<budget>.csv`.
    """

    number: int
    synthetic_file: Path
    film_strip_file: Path | None
    scores: Mapping[str, Any]
    history: pd.DataFrame

    @cached_property
    def synthetic(self) -> LabeledImages:
        """Its synthetic images; read at the first use."""
        return LabeledImages.load(self.synthetic_file)

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """Where its synthetic images come from: `generator_sha256`, `real_subset_sha256`, `seed` and more.

        Raises:
            SynthGainError: if the file is missing or damaged, or does not say so.
        """
        provenance = self.synthetic.provenance
        for key in ("generator_sha256", "real_subset_sha256"):
            if key not in provenance:
                raise SynthGainError(
                    f"{self.synthetic_file}: its provenance has no {key}; `dvc repro` makes it again"
                )
        return provenance

    @cached_property
    def film_strip(self) -> bytes:
        """The bytes of a PNG that can be read.

        Raises:
            SynthGainError: if it is missing or damaged.
        """
        assert self.film_strip_file is not None, "our GAN has one"
        return _read_png(self.film_strip_file)


@dataclass(frozen=True, eq=False)
class BudgetResults:
    """What the files say about one budget.

    Attributes:
        budget: as in `study.real_images`.
        judged: its row of `comparison.json`.
        folders: where its files lie.
        numbers: of its replicates, from 1, without those that are left out.
    """

    budget: Budget
    judged: Mapping[str, Any]
    folders: ResultFolders
    numbers: Sequence[int]

    @cached_property
    def generative(self) -> Mapping[str, Any]:
        """`metrics/synthetic/<budget>.json`, of its replicates only: their keys are "1", "2" and so on."""
        return read_generative(self.folders.metrics / f"synthetic/{self.budget}.json", self.numbers)

    @property
    def generator(self) -> Mapping[str, Any] | None:
        """Who made its images (`kind`, `name`, `author`, `licence`, `trained_on`), if it was not our GAN.

        Such a generator has no history here, and no film strip.
        """
        origin: Mapping[str, Any] | None = self.generative.get("generator")
        return origin

    @cached_property
    def history(self) -> pd.DataFrame:
        """`metrics/gan/<budget>.csv`, of its replicates only; empty where our GAN made no image."""
        numbers = () if self.generator else self.numbers
        return read_history(self.folders.metrics / f"gan/{self.budget}.csv", numbers)

    @cached_property
    def replicates(self) -> Sequence[ReplicateResults]:
        """Its replicates, the first one first."""
        return [
            ReplicateResults(
                number,
                self.folders.synthetic / f"{self.budget}/{replicate_index(number)}.npz",
                None
                if self.generator
                else self.folders.gan / f"{self.budget}/{replicate_index(number)}/film_strip.png",
                self.generative["replicates"][str(number)],
                self.history[self.history["replicate"] == number],
            )
            for number in self.numbers
        ]

    @property
    def classic(self) -> DeclaredArm:
        """The classic arm that validation chose."""
        return DeclaredArm.of_row(self.judged["best_classic"])

    @property
    def best_synthetic(self) -> DeclaredArm | None:
        """The arm with synthetic images that validation chose; None where none was trained."""
        return DeclaredArm.of_row(self.judged["best_synthetic"]) if self.judged["best_synthetic"] else None

    @property
    def recommended(self) -> DeclaredArm:
        """One of these two."""
        return DeclaredArm.of_row(self.judged["recommended"])


@dataclass(frozen=True, eq=False)
class Results:
    """The results of the declared study; files of anything else are not read.

    Every property raises SynthGainError if its file is missing or damaged, or belongs to another study.
    """

    folders: ResultFolders
    grid: Grid

    @cached_property
    def comparison(self) -> Mapping[str, Any]:
        """`comparison.json`, which compares exactly the declared arms."""
        return _read_comparison(self.folders.metrics / "comparison.json", self.grid)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The declared rows of `cells.csv`: what `load_cells` returns."""
        return load_cells(self.folders.metrics / "cells.csv", self.grid)[0]

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """The declared rows of `confusion.csv`."""
        return load_confusion(self.folders.metrics / "confusion.csv", self.grid)

    @cached_property
    def splits(self) -> Mapping[str, Any]:
        """The manifest of the splits."""
        return _read_json(self.folders.prepared / "splits.json", needed=("splits",))

    @cached_property
    def train(self) -> LabeledImages:
        """The train split."""
        return LabeledImages.load(self.folders.prepared / "train.npz")

    @cached_property
    def budgets(self) -> Sequence[BudgetResults]:
        """The budgets in their declared order."""
        return [
            BudgetResults(budget, judged, self.folders, self.grid.replicates_of(budget))
            for budget, judged in zip(self.grid.budgets, self.comparison["budgets"], strict=True)
        ]

    @cached_property
    def table_sha256(self) -> Mapping[str, str]:
        """The SHA-256 of the tables, by file name."""
        return {
            name: hashlib.sha256(_read_bytes(self.folders.metrics / name)).hexdigest() for name in _TABLES
        }

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
        return next(row for row in self.arm_rows(budget) if DeclaredArm.of_row(row) == arm)


def load_results(folders: ResultFolders, study: DeclaredStudy) -> Results:
    """The results of the declared study, after a look at every table: a fault is named before any work starts.

    Args:
        folders: where the results lie.
        study: the declared study; the files say which of its replicates are left out.

    Raises:
        SynthGainError: if a table is missing or damaged, or belongs to another study than the declared one.
    """
    grid = Grid.declared(study, trained_gans(folders.metrics / "collapsed", study.real_images))
    results = Results(folders, grid)
    for budget in results.budgets:
        _ = budget.replicates
    _ = results.cells, results.confusion, results.splits
    return results


def require_class_columns(results: Results) -> None:
    """Refuse cells without the F1 of each class.

    Raises:
        SynthGainError: naming the first class that has none.
    """
    for name in results.class_names:
        if f"test_f1_{name}" not in results.cells:
            raise SynthGainError(
                f"{results.folders.metrics / 'cells.csv'}: no column test_f1_{name}, a class of"
                f" {results.folders.prepared / 'train.npz'}; `dvc repro` brings both up to date"
            )


def read_generative(path: Path, replicates: Sequence[int]) -> dict[str, Any]:
    """The metrics of a budget's synthetic images, of these replicates (by number) only, in order.

    Raises:
        SynthGainError: if the file is missing or damaged, or lacks a replicate.
    """
    values = _read_json(path, needed=("replicates", "floor", "copycat", "n"))
    declared = [str(number) for number in replicates]
    missing = [number for number in declared if number not in values["replicates"]]
    if missing:
        raise SynthGainError(f"{path}: no replicate {', '.join(missing)}; `dvc repro` makes it again")
    return values | {"replicates": {number: values["replicates"][number] for number in declared}}


def _read_comparison(path: Path, grid: Grid) -> dict[str, Any]:
    comparison = _read_json(
        path,
        needed=("arms", "left_out", "comparisons", "budgets", "reading", "test_sampling_error", "verdict"),
    )
    declared = [(budget, arm.name, arm.synthetic_per_real) for budget in grid.budgets for arm in grid.arms()]
    found = [
        (row["budget"], row["arm"], row["synthetic_per_real"])
        for row in (*comparison["arms"], *comparison["left_out"])
    ]
    left_out = [row.get("left_out_replicates", []) for row in comparison["budgets"]]
    if (
        sorted(found, key=str) != sorted(declared, key=str)
        or comparison["replicates"] != grid.replicates
        or left_out != [grid.gans_of(budget).left_out for budget in grid.budgets]
    ):
        raise SynthGainError(
            f"{path}: compares another study than params.yaml declares; `dvc repro` compares again"
        )
    return comparison


def _read_json(path: Path, *, needed: Sequence[str]) -> dict[str, Any]:
    try:
        values = json.loads(_read_bytes(path))
    except ValueError as error:
        raise SynthGainError(f"{path}: not valid JSON ({error}); `dvc repro` makes it again") from None
    missing = [key for key in needed if not isinstance(values, dict) or key not in values]
    if missing:
        raise SynthGainError(f"{path}: no {', '.join(missing)}; `dvc repro` makes it again")
    return dict(values)


def read_history(path: Path, replicates: Sequence[int]) -> pd.DataFrame:
    """Every column of `metrics/gan/<budget>.csv`, of these replicates (by number) only.

    Raises:
        SynthGainError: if the file is missing or damaged, or lacks a replicate.
    """
    try:
        table = pd.read_csv(io.BytesIO(_read_bytes(path)))
        _ = table[[*_HISTORY_COLUMNS]]
    except (ValueError, KeyError) as error:
        raise SynthGainError(
            f"{path}: not a training history ({error}); `dvc repro` makes it again"
        ) from None
    history = table[table["replicate"].isin(replicates)]
    missing = sorted(set(replicates) - set(history["replicate"]))
    if missing:
        raise SynthGainError(f"{path}: no replicate {', '.join(map(str, missing))}; `dvc repro` adds it")
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
