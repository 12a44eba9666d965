"""What the page says first: the answer in a few words, and what to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.comparison.judgement import out_of_reach
from pipeline.comparison.texts import points, points_interval
from pipeline.report.tables import arm_text
from pipeline.results import BudgetResults, Results
from pipeline.study.arms import ARMS
from pipeline.study.grid import DeclaredArm
from pipeline.study.metric import WORDS, Metric
from pipeline.study.subsets import Budget

# By the code of a verdict (`comparison.judgement.CODES`).
ANSWERS = {
    "nothing_to_compare": "There is nothing to compare",
    "too_few_replicates": "Not known yet: too few replicates",
    "gain": "Yes, they help",
    "gain_not_confirmed": "Perhaps: a gain, not confirmed",
    "gain_on_test_alone": "Perhaps: a gain on test alone",
    "harm": "No, they do harm",
    "prefer_classic": "No: classic augmentation does as well",
    "no_detectable_effect": "No gain was found",
}
_CANNOT_TELL = "Not known: this study is too small to tell"
_OPEN = ("too_few_replicates", "gain_not_confirmed", "gain_on_test_alone", "no_detectable_effect")


def headline(judged: Mapping[str, Any], metric: Metric) -> str:
    """The answer of a budget and its number: `No gain was found: −0.38 points of test accuracy [−6.14 to +5.39]`.

    Args:
        judged: a row of `comparison.json`'s budgets.
        metric: of the study.
    """
    answer = _CANNOT_TELL if cannot_tell(judged) else ANSWERS[judged["code"]]
    words = f"{_real_images(judged['budget'])}: {answer}"
    if judged.get("mean_difference") is None:
        return f"{words}."
    change = f"{points(judged['mean_difference'])} points of test {WORDS[metric]}"
    if judged.get("low") is None:
        return f"{words}. {change}, without an interval."
    return f"{words}. {change} [{points_interval(judged['low'], judged['high'])}]."


def cannot_tell(judged: Mapping[str, Any]) -> bool:
    """Whether nothing was found, and not even the largest possible gain would have been."""
    largest_gain = judged.get("largest_gain", 1.0)  # studies of before do not have it
    return judged["code"] == "no_detectable_effect" and out_of_reach(
        judged.get("minimum_detectable_effect"), largest_gain
    )


def what_to_do(results: Results) -> list[str]:
    """Sentences on what to train with, what would settle it, and what more real images would give."""
    sentences = []
    for budget_results in results.budgets:
        sentences.append(_training(budget_results))
        sentences += _settling(budget_results.judged)
        sentences += _more_real_images(results, budget_results)
    sentences.append("The synthetic images, with a card, lie in data/export.")
    return sentences


def _real_images(budget: Budget) -> str:
    return "All real images" if budget == "all" else f"{budget} real images"


def _training(budget_results: BudgetResults) -> str:
    arm = budget_results.recommended
    where = f"With {_real_images(budget_results.budget).lower()}"
    if not arm.recipe.uses_synthetic:
        return f"{where}: train on {arm_text(arm)}, without synthetic images."
    return f"{where}: train on {arm_text(arm)}: so many synthetic images per real one."


def _settling(judged: Mapping[str, Any]) -> list[str]:
    if judged["code"] not in _OPEN:
        return []
    needed = judged.get("replicates_to_settle")
    many = f"about {needed} replicates" if needed else "more replicates"
    value = needed or "N"
    return [
        f"To know more: {many}. Set `replicates: {value}` below `study:` in params.yaml, then run `dvc repro`:"
        " what is trained is not trained again."
    ]


def _more_real_images(results: Results, budget_results: BudgetResults) -> list[str]:
    """What the upper bound gave: as many other real images, where the study trains it."""
    rows = [
        row
        for row in results.comparison["comparisons"]
        if row["budget"] == budget_results.budget
        and row["metric"] == f"test_{results.grid.metric}"
        and DeclaredArm(row["candidate"], row["synthetic_per_real"]).recipe.images == "real_and_extra"
        and row["low"] is not None
    ]
    if not rows:
        return []
    most = max(rows, key=lambda row: (row["synthetic_per_real"], row["mean_difference"]))
    change = f"{points(most['mean_difference'])} points over {ARMS[most['baseline']].words}"
    return [
        f"For comparison: {most['synthetic_per_real']:g} other real images per real one gave {change}"
        f" [{points_interval(most['low'], most['high'])}]."
    ]
