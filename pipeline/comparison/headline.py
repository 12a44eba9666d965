"""The answer of each budget that people read first: what the chart, the summary and MLflow show beside the sentence.

In a study with rare classes it is the verdict on them, by its own metric; else that on all classes, by `study.metric`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.study.arms import ARMS
from pipeline.study.metric import Metric


@dataclass(frozen=True)
class Headline:
    """What was chosen and judged for a budget.

    Attributes:
        budget: which.
        metric: that chose and judged.
        arms: the rows of all arms of the budget, with `test_<metric>` and its interval.
        without, best: the keys of the best arm without and with synthetic images, both chosen on validation; None: no
            arm with synthetic images was trained.
        recommended: the one of the two that is recommended.
        judged: the row of the verdict, with the difference and its interval.
        rare: whether it is the verdict on rare classes.
    """

    budget: Any
    metric: Metric
    arms: Sequence[Mapping[str, Any]]
    without: Mapping[str, Any]
    best: Mapping[str, Any] | None
    recommended: Mapping[str, Any]
    judged: Mapping[str, Any]
    rare: bool

    def row(self, arm: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row of an arm by its key."""
        return next(row for row in self.arms if arm_of(row) == arm_of(arm))


def headlines(comparison: Mapping[str, Any]) -> list[Headline]:
    """The headline of each budget, in their order."""
    section = comparison.get("imbalance", {"budgets": []})
    rare = {row["budget"]: row for row in section["budgets"] if row["best_synthetic"] is not None}
    return [
        _of_rare_classes(section, rare[row["budget"]])
        if row["budget"] in rare
        else _of_all_classes(comparison, row)
        for row in comparison["budgets"]
    ]


def best_without_pool(arms: Sequence[Mapping[str, Any]], metric: Metric) -> Mapping[str, Any]:
    """The row of the arm that validation prefers among those that see the real images of a budget and no others.

    Args:
        arms: the rows of its arms, with `validation_<metric>`.
        metric: that chooses.
    """
    alone = [row for row in arms if ARMS[row["arm"]].place == "baselines"]
    return max(alone, key=lambda row: float(row[f"validation_{metric}"]))


def arm_of(key: Mapping[str, Any]) -> tuple[str, float]:
    """An arm's name and its ratio, as a row or a key says them."""
    return key["arm"], key["synthetic_per_real"]


def _of_all_classes(comparison: Mapping[str, Any], judged: Mapping[str, Any]) -> Headline:
    return Headline(
        budget=judged["budget"],
        metric=comparison.get("metric", "accuracy"),
        arms=_of_budget(comparison["arms"], judged),
        without=judged["best_classic"],
        best=judged.get("best_synthetic"),
        recommended=judged.get("recommended") or judged["best_classic"],
        judged=judged,
        rare=False,
    )


def _of_rare_classes(section: Mapping[str, Any], judged: Mapping[str, Any]) -> Headline:
    without, best = (_key(judged[name]) for name in ("best_remedy", "best_synthetic"))
    return Headline(
        budget=judged["budget"],
        metric=section["metrics"][-1].removeprefix("test_"),
        arms=_of_budget(section["arms"], judged),
        without=without,
        best=best,
        recommended=_key(judged.get("recommended", without)),
        judged=judged,
        rare=True,
    )


def _key(arm: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """The key of an arm. Earlier versions wrote a name: their arms for rare classes had no ratio."""
    return {"arm": arm, "synthetic_per_real": 0} if isinstance(arm, str) else arm


def _of_budget(arms: Sequence[Mapping[str, Any]], judged: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in arms if row["budget"] == judged["budget"]]
