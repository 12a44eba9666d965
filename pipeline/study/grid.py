"""The declared study: its arms at its ratios, budgets and replicates, and the key of each cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.errors import SynthGainError
from pipeline.study.arms import ARMS, Arm
from pipeline.study.metric import Metric
from pipeline.study.subsets import Budget
from pipeline.study.trained_gans import TrainedGans

Ratio = int | float
CellKey = tuple[str, str, float, int]  # budget as text, arm, synthetic_per_real, replicate (from 1)


class DeclaredStudy(Protocol):
    """The section `study` of the parameters, as far as it spans the grid."""

    real_images: list[Budget]
    synthetic_per_real: list[Ratio]
    replicates: int
    arms: list[str]
    imbalance: dict[str, int | float]
    metric: Metric


@dataclass(frozen=True)
class DeclaredArm:
    """An arm of a study: its name, and how many images it has beyond the subset per real one (0: none)."""

    name: str
    synthetic_per_real: Ratio

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> DeclaredArm:
        """The arm that `arm` and `synthetic_per_real` of a row of `comparison.json` name."""
        return cls(row["arm"], row["synthetic_per_real"])

    @property
    def recipe(self) -> Arm:
        """What it trains on, and how."""
        return ARMS[self.name]

    @property
    def policy(self) -> str:
        """Its classic augmentation: `none`, `affine` and so on."""
        return self.recipe.policy

    @property
    def baseline(self) -> DeclaredArm | None:
        """The same training without what this arm adds; it is in every study that has this arm."""
        return DeclaredArm(self.recipe.baseline, 0) if self.recipe.baseline else None

    def __str__(self) -> str:
        ratio = f" at {self.synthetic_per_real}" if self.synthetic_per_real else ""
        return f"{self.recipe.words}{ratio}"


@dataclass(frozen=True)
class Grid:
    """The declared study: its cells are read, and no others.

    Attributes:
        budgets: as in `study.real_images`.
        ratios: as in `study.synthetic_per_real`; 0 stands for real only, which is always there.
        replicates: how many are declared.
        arm_names: as in `study.arms`.
        imbalance: as in `study.imbalance`.
        metric: by which arms are chosen and judged.
        gans: what became of the GANs of each budget; a replicate that they leave out has no cells.
    """

    budgets: tuple[Budget, ...]
    ratios: tuple[Ratio, ...]
    replicates: int
    arm_names: tuple[str, ...]
    imbalance: Mapping[str, int | float] = field(default_factory=dict)
    gans: Mapping[Budget, TrainedGans] = field(default_factory=dict)
    metric: Metric = "accuracy"

    @classmethod
    def declared(cls, study: DeclaredStudy, gans: Mapping[Budget, TrainedGans] | None = None) -> Grid:
        """The grid of the parameters, without the replicates that the GANs leave out."""
        return cls(
            tuple(study.real_images),
            tuple(study.synthetic_per_real),
            study.replicates,
            tuple(study.arms),
            study.imbalance,
            gans or {},
            study.metric,
        )

    def gans_of(self, budget: Budget) -> TrainedGans:
        """What became of the GANs of a budget."""
        return self.gans.get(budget, TrainedGans())

    def replicates_of(self, budget: Budget) -> list[int]:
        """The numbers of the replicates of a budget, from 1, without those that are left out."""
        return self.gans_of(budget).remaining(self.replicates)

    @property
    def positive_ratios(self) -> list[Ratio]:
        """The ratios with synthetic images, ascending."""
        return sorted(positive_ratios(self.ratios))

    def classic_arms(self) -> list[DeclaredArm]:
        """The arms on the real subset alone."""
        return [
            DeclaredArm(arm.name, 0)
            for arm in self._declared()
            if arm.images == "real" and not arm.rare_only and not arm.pool
        ]

    def pool_arms(self) -> list[DeclaredArm]:
        """The arms on the real subset and the pool, without synthetic images; the upper bound too."""
        return [DeclaredArm(arm.name, 0) for arm in self._declared() if arm.place == "pool"]

    def arms_without_generator(self) -> list[DeclaredArm]:
        """What synthetic images have to beat: the classic arms, and those with the pool but for its upper bound."""
        arms = [*self.classic_arms(), *self.pool_arms()]
        return [arm for arm in arms if arm.recipe.needs_no_generator]

    def fill_arms(self) -> list[DeclaredArm]:
        """The arms that bring rare classes up to the common count: a family of their own, without a ratio."""
        return [DeclaredArm(arm.name, 0) for arm in self._declared() if arm.rare_only]

    def added_arms(self) -> list[DeclaredArm]:
        """The arms of real and synthetic images, ratio by ratio."""
        return [arm for arm in self.arms() if arm.recipe.adds_synthetic]

    def arms(self) -> list[DeclaredArm]:
        """Every arm of a budget: the classic ones, those for rare classes, those with the pool, then ratio by ratio."""
        with_others = [arm for arm in self._declared() if arm.place in ("augmented", "controls")]
        return [*self.classic_arms(), *self.fill_arms(), *self.pool_arms()] + [
            DeclaredArm(arm.name, ratio) for ratio in self.positive_ratios for arm in with_others
        ]

    def _declared(self) -> list[Arm]:
        return [arm for arm in ARMS.values() if arm.name in self.arm_names]

    def cells(self) -> list[CellKey]:
        """The key of every declared cell."""
        return [
            key for budget in self.budgets for arm in self.arms() for key in self.cells_of_arm(budget, arm)
        ]

    def cells_of_arm(self, budget: Budget, arm: DeclaredArm) -> list[CellKey]:
        """The keys of an arm's cells in the tables, replicate 1 first."""
        return [
            (str(budget), arm.name, float(arm.synthetic_per_real), replicate)
            for replicate in self.replicates_of(budget)
        ]


def parse_ratio(text: str) -> int | float:
    """The ratio that DVC wrote on a command line, as it stands in params.yaml: `str` gives the same text again."""
    try:
        ratio = int(text) if text.isdecimal() else float(text)
    except ValueError:
        ratio = math.nan
    if not 0 <= ratio < math.inf:
        raise SynthGainError(f"--synthetic-per-real: found {text}; a number from 0 on")
    return ratio


def cell_key(
    *, budget: Budget, arm: Arm, synthetic_per_real: float, replicate: int
) -> Mapping[str, int | float | str]:
    """The facts that name a cell; `replicate` is the index, from 0. The tables have its number, from 1."""
    return {
        "budget": budget,
        "arm": arm.name,
        "synthetic_per_real": synthetic_per_real,
        "classic_augmentation": arm.policy,
        "replicate": replicate,
    }


def positive_ratios(synthetic_per_real: Sequence[int | float]) -> list[int | float]:
    """The ratios that have arms of their own: 0 means real only, which the baselines are."""
    return [ratio for ratio in synthetic_per_real if ratio > 0]
