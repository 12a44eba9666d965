"""Which budget's synthetic images to hand over, and what the study says of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import SynthGainError

Budget = int | Literal["all"]


@dataclass(frozen=True)
class Selection:
    """One budget's synthetic images, with the study's word on them.

    Attributes:
        budget: the real images their GAN was trained on.
        recommended: whether the study recommends adding such images at that budget.
        synthetic_per_real: the ratio it recommends; 0 where it recommends none.
        verdict: the study's sentence on that budget.
    """

    budget: Budget
    recommended: bool
    synthetic_per_real: float
    verdict: str

    @property
    def advice(self) -> str:
        """A sentence for the person who takes the images away."""
        if self.recommended:
            return f"The study recommends adding {self.synthetic_per_real:g} of these images per real image."
        return "The study does not recommend adding these images."

    @property
    def note(self) -> str:
        """The advice and its reasons."""
        return f"{self.advice} {self.verdict}"

    def facts(self) -> dict[str, Any]:
        """What the manifest keeps (JSON values)."""
        return {**asdict(self), "note": self.note}


def select_budget(
    comparison: Path, *, wanted: Budget | Literal["recommended"], declared: Sequence[Budget]
) -> Selection:
    """The budget asked for, or the recommended one: of several, the largest, since its GAN has seen the most.

    Where the study recommends synthetic images at no budget, the largest declared one is taken, and says so.

    Args:
        comparison: `comparison.json` of the compare stage.
        wanted: a budget, or "recommended".
        declared: `study.real_images`.

    Raises:
        SynthGainError: if the comparison cannot be read or lacks a declared budget.
    """
    selections = _read_selections(comparison)
    missing = [budget for budget in declared if budget not in selections]
    if missing:
        raise SynthGainError(f"{comparison}: no verdict for budget {missing[0]}; run the compare stage again")
    by_size = sorted((selections[budget] for budget in declared), key=_size)
    if wanted != "recommended":
        return selections[wanted]
    return next((selection for selection in reversed(by_size) if selection.recommended), by_size[-1])


def _read_selections(comparison: Path) -> dict[Budget, Selection]:
    try:
        rows = json.loads(comparison.read_text(encoding="utf-8"))["budgets"]
        return {
            row["budget"]: Selection(
                budget=row["budget"],
                recommended=row["recommended"]["synthetic_per_real"] > 0,
                synthetic_per_real=row["recommended"]["synthetic_per_real"],
                verdict=row["verdict"],
            )
            for row in rows
        }
    except FileNotFoundError:
        raise SynthGainError(f"{comparison}: no such file; `dvc repro compare` makes it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SynthGainError(
            f"{comparison}: not a readable comparison ({error}); run the compare stage again"
        ) from None


def _size(selection: Selection) -> float:
    return float("inf") if selection.budget == "all" else selection.budget
