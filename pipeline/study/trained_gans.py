"""What became of the GANs of a budget: a small file of `train_gan`, which says what every later stage leaves out.

A GAN that collapses or diverges leaves its replicate out, of every arm: all of them are means over the same
replicates. With several generators per replicate, one is enough. The others keep their numbers and their seeds.
Leaving out what failed flatters synthetic images: a verdict says how many GANs collapsed, and is never `gain` then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SynthGainError
from pipeline.runtime.outputs import write_text
from pipeline.study.subsets import Budget, Imbalance, replicate_index, replicate_numbers

FEWEST_REPLICATES = 2  # of a comparison: one has no interval

# Of images whose generator may have been trained on anything (`generator.trained_on: unknown`).
LEAKAGE_NOT_EXCLUDED = (
    "It is not known what the generator was trained on, test images perhaps: leakage cannot be excluded."
)


@dataclass(frozen=True)
class GanStudy:
    """The generators of a budget, and the real images that each of them is trained on.

    Attributes:
        budget: real images of a replicate, or "all".
        replicates: how many, each with a real subset of its own.
        generators_per_replicate: generators of other seeds on the same real subset.
        imbalance: the rare classes, as in `study.imbalance`.
        seed: of the whole study.
    """

    budget: Budget
    replicates: int
    generators_per_replicate: int
    imbalance: Imbalance
    seed: int

    @property
    def trainings(self) -> int:
        """How many generators there are."""
        return self.replicates * self.generators_per_replicate


@dataclass(frozen=True)
class Collapse:
    """A GAN whose training was given up.

    Attributes:
        replicate, generator: its place, both from 1.
        reason: in a line, without a path.
    """

    replicate: int
    generator: int
    reason: str


@dataclass(frozen=True)
class TrainedGans:
    """The GANs of a budget, or the runs of a generator of one's own that stand in their place.

    Attributes:
        gans: how many were to be trained.
        collapsed: those that were given up, in order.
        trained_on: of a generator of one's own, `generator.trained_on`; empty for our GAN.
    """

    gans: int = 0
    collapsed: tuple[Collapse, ...] = ()
    trained_on: str = ""

    @property
    def left_out(self) -> list[int]:
        """The numbers of the replicates that are left out, ascending."""
        return sorted({collapse.replicate for collapse in self.collapsed})

    @property
    def words(self) -> str:
        """`1 of 3 GANs collapsed`, or `1 of 3 runs of the generator failed`; empty if none did."""
        what = "runs of the generator failed" if self.trained_on else "GANs collapsed"
        return f"{len(self.collapsed)} of {self.gans} {what}" if self.collapsed else ""

    @property
    def caveat(self) -> str:
        """What a verdict has to add, with a blank before it; empty if nothing."""
        return f" {LEAKAGE_NOT_EXCLUDED}" if self.trained_on == "unknown" else ""

    def remaining(self, replicates: int) -> list[int]:
        """The numbers of the replicates that are not left out, of so many declared ones."""
        return [number for number in replicate_numbers(replicates) if number not in self.left_out]

    def refusal(self, replicate: int, *, declared: int) -> str | None:
        """Why the images of a replicate (by number) cannot be handed over: it has none; None: it is not left out."""
        reasons = [collapse.reason for collapse in self.collapsed if collapse.replicate == replicate]
        if not reasons:
            return None
        others = ", ".join(map(str, self.remaining(declared)))
        return (
            f"export.replicate: found {replicate}, which is left out ({reasons[0]}); of this budget there are the"
            f" replicates {others}"
        )

    def facts(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "gans": self.gans,
            "collapsed": [asdict(collapse) for collapse in self.collapsed],
            **({"trained_on": self.trained_on} if self.trained_on else {}),
        }


def save_trained_gans(path: Path, gans: TrainedGans) -> None:
    """Write the file of a budget."""
    write_text(path, json.dumps(gans.facts(), indent=2, sort_keys=True) + "\n")


def load_trained_gans(path: Path) -> TrainedGans:
    """Read what `save_trained_gans` wrote.

    Where there is no file nothing is left out: in version 0.1.0 the first collapse stopped the study.

    Raises:
        SynthGainError: if the file is damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        collapsed = tuple(
            Collapse(int(row["replicate"]), int(row["generator"]), str(row["reason"]))
            for row in values["collapsed"]
        )
        return TrainedGans(int(values["gans"]), collapsed, str(values.get("trained_on", "")))
    except FileNotFoundError:
        return TrainedGans()
    except (ValueError, KeyError, TypeError) as error:
        raise SynthGainError(
            f"{path}: does not say which GANs collapsed ({type(error).__name__}); `dvc repro` makes it again"
        ) from None


def remaining_replicates(file: Path, *, declared: int) -> list[int]:
    """The indices, from 0, of the replicates of a budget that are not left out.

    Args:
        file: of the budget (`load_trained_gans`).
        declared: how many replicates the study has.

    Raises:
        SynthGainError: as `load_trained_gans`.
    """
    return [replicate_index(number) for number in load_trained_gans(file).remaining(declared)]


def trained_gans(folder: Path, budgets: Iterable[Budget]) -> dict[Budget, TrainedGans]:
    """Those of each budget: `<budget>.json` in a folder.

    Raises:
        SynthGainError: as `load_trained_gans`.
    """
    return {budget: load_trained_gans(folder / f"{budget}.json") for budget in budgets}
