"""What synthetic images added in studies that were run to their end: the rows of docs/when-it-helps.md."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.augmentation.policies import POLICIES
from pipeline.comparison.texts import points
from pipeline.params import Params
from pipeline.study.arms import ARMS, Arm
from pipeline.study.metric import WORDS, Metric

TABLE = Path(__file__).with_name("measured.csv")
_NEAR = 3.0  # times as many labels, or a third of them: a row of other sizes is no evidence


@dataclass(frozen=True)
class Measured:
    """One row: a situation, and what the images of a generator added there.

    Attributes:
        data: what the images are, for people: `MNIST`.
        labels: labelled real images.
        pool: whether unlabelled images were used too.
        rare: whether some classes were rare.
        classic: the augmentation policy that both sides have.
        arm, ratio: what was added; the ratio is 0 where rare classes were filled.
        against: the arm that it is compared with.
        metric: that the gain is of.
        gain, low, high: percentage points on test, with the 95 % interval.
        replicates: of the study.
        study: its name in studies/ and docs/studies/.
    """

    data: str
    labels: int
    pool: bool
    rare: bool
    classic: str
    arm: str
    ratio: float
    against: str
    metric: Metric
    gain: float
    low: float
    high: float
    replicates: int
    study: str

    @property
    def interval(self) -> str:
        """The gain and its interval: `−0.01 [−0.18, +0.17]`."""
        gain, low, high = (points(value / 100) for value in (self.gain, self.low, self.high))
        return f"{gain} [{low}, {high}]"

    @property
    def sentence(self) -> str:
        """The row in words, as `synthgain plan` prints it."""
        gain, _, ends = self.interval.partition(" ")
        many = f"{self.ratio:g} per real image of " if self.ratio else ""
        return (
            f"{self.data} with {self.labels} labels: {many}{ARMS[self.arm].words} gave {gain} points of"
            f" {WORDS[self.metric]} {ends} against {ARMS[self.against].words} ({self.replicates} replicates,"
            f" studies/{self.study}.yaml)"
        )


def measured() -> Iterator[Measured]:
    """The rows, in the order of the page."""
    kinds = {field.name: field.type for field in fields(Measured)}
    read: dict[str, Callable[[str], Any]] = {
        "int": int,
        "float": float,
        "str": str,
        "bool": lambda text: text == "yes",
        "Metric": str,
    }
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Measured(**{name: read[str(kinds[name])](value) for name, value in row.items()})


def nearest(params: Params, *, labels: int) -> Measured | None:
    """The row that a study comes closest to; None where nothing like it was measured.

    Pool and rare classes must be the same, and so must the last of the policies that the study compares on real images
    alone. Labels may differ by a factor of 3. Rows of the same images come first.
    """
    declared = [policy for policy in POLICIES if Arm("real", policy).name in params.study.arms]
    rows = [
        row
        for row in measured()
        if row.pool == (params.study.pool != "none")
        and row.rare
        == (bool(params.study.imbalance) or any(ARMS[name].rare_only for name in params.study.arms))
        and row.classic == declared[-1]
        and max(row.labels / labels, labels / row.labels) <= _NEAR
    ]
    source = params.data.source.upper()
    return min(
        rows, key=lambda row: (row.data.upper() != source, abs(math.log(row.labels / labels))), default=None
    )
