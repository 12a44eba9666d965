"""Rare classes: whether synthetic images fill their gap better than what needs no generator.

The rule, per budget, is that of `comparison`, with macro-F1 in the place of accuracy:

1. Choose on validation: the best arm with synthetic images in the gap, and the best of what needs none (the real
   subset as it is, classic augmentation, repeated images, class weights, affine copies). Equal ones: the first.
2. Look at test once: the paired difference, each replicate judged by what the others chose.

Macro-F1 decides, because every class counts in it as much as any, and a class that is claimed too often costs it
too. The recall of the rare classes alone could be had by claiming them always: it stands beside, class by class.
Whoever compares all arms reads the p-values after Holm, one family per budget and metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipeline.comparison.cells import cell_values, trained_arms
from pipeline.comparison.cross_fitted_choice import choose, paired_choices
from pipeline.comparison.verdict import (
    Code,
    basis_words,
    change_words,
    paired_columns,
    rounded,
    sign_of,
    verdict_code,
)
from pipeline.errors import SynthGainError
from pipeline.statistics import holm, mean_interval, paired_test
from pipeline.study.arms import policy_words
from pipeline.study.grid import DeclaredArm, Grid
from pipeline.study.subsets import Budget, replicate_numbers

_KEY = ["budget", "arm", "synthetic_per_real", "replicate"]
_RARE_RECALL = "test_rare_recall"
_MACRO_F1 = "test_macro_f1"
_CHOOSES = "validation_macro_f1"


def with_imbalance(
    comparison: dict[str, Any], cells: pd.DataFrame, confusion: pd.DataFrame, grid: Grid
) -> dict[str, Any]:
    """The comparison with its section `imbalance`, whose verdicts come first; as it is where no class is rare.

    Raises:
        SynthGainError: as `compare_imbalance`.
    """
    if not grid.imbalance:
        return comparison
    rare = compare_imbalance(cells, confusion, grid)
    verdicts = [row["verdict"] for row in rare["budgets"]]
    return {**comparison, "imbalance": rare, "verdict": " ".join([*verdicts, comparison["verdict"]])}


def compare_imbalance(cells: pd.DataFrame, confusion: pd.DataFrame, grid: Grid) -> dict[str, Any]:
    """The section of `comparison.json` on rare classes (JSON values; fractions 0..1).

    Args:
        cells: what `load_cells` returned.
        confusion: what `load_confusion` returned.
        grid: the declared study.

    Raises:
        SynthGainError: if a rare class is not among the classes of `confusion`.
    """
    table = with_recalls(cells, confusion, tuple(grid.imbalance))
    metrics = (*(_recall_column(name) for name in grid.imbalance), _RARE_RECALL, _MACRO_F1)
    return {
        "classes": dict(grid.imbalance),
        "metrics": list(metrics),
        "arms": [
            _arm_row(table, budget, arm, metrics)
            for budget in grid.budgets
            for arm in trained_arms(table, grid, budget)
        ],
        "comparisons": [
            row for budget in grid.budgets for row in _comparison_rows(table, grid, budget, metrics)
        ],
        "budgets": [_judge_budget(table, grid, budget) for budget in grid.budgets],
    }


def with_recalls(cells: pd.DataFrame, confusion: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The cells with a column `test_recall_<class>` for each of the classes, and their mean `test_rare_recall`.

    Recall is the share of a class's test images that are recognised as such.

    Raises:
        SynthGainError: as `compare_imbalance`.
    """
    counts = confusion.astype({"synthetic_per_real": float})
    table = cells.astype({"synthetic_per_real": float})
    columns = []
    for name in names:
        actual = counts[counts["actual"] == name]
        if not len(actual):
            raise SynthGainError(
                f"study.imbalance: found class {name}; the classes are"
                f" {', '.join(dict.fromkeys(counts['actual']))}"
            )
        total = actual.groupby(_KEY)["count"].sum()
        right = actual[actual["predicted"] == name].groupby(_KEY)["count"].sum()
        recall = (right.reindex(total.index, fill_value=0) / total).rename(_recall_column(name))
        table = table.merge(recall.reset_index(), on=_KEY, how="left", validate="one_to_one")
        columns.append(_recall_column(name))
    return table.assign(**{_RARE_RECALL: table[columns].mean(axis=1)})


def _recall_column(name: str) -> str:
    return f"test_recall_{name}"


def _arm_row(table: pd.DataFrame, budget: Budget, arm: DeclaredArm, metrics: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"budget": budget, "arm": arm.name, "synthetic_per_real": arm.synthetic_per_real}
    for metric in metrics:
        interval = mean_interval(cell_values(table, budget, arm, metric))
        row[metric] = rounded(interval.mean)
        row[f"{metric}_low"], row[f"{metric}_high"] = rounded(interval.low), rounded(interval.high)
    return row


def _comparison_rows(
    table: pd.DataFrame, grid: Grid, budget: Budget, metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Each remedy and each filling arm against its baseline; Holm over these arms, for each metric."""
    trained = trained_arms(table, grid, budget)
    rows = []
    for metric in metrics:
        family = []
        for arm in grid.fill_arms():
            if arm.baseline is None or arm not in trained:
                continue
            before, after = (cell_values(table, budget, one, metric) for one in (arm.baseline, arm))
            family.append(
                {
                    "budget": budget,
                    "candidate": arm.name,
                    "baseline": arm.baseline.name,
                    "metric": metric,
                    "differences": [rounded(float(difference)) for difference in after - before],
                    **paired_columns(paired_test(baseline=before, candidate=after)),
                }
            )
        for row, adjusted in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = rounded(adjusted)
        rows += family
    return rows


def _judge_budget(table: pd.DataFrame, grid: Grid, budget: Budget) -> dict[str, Any]:
    """The rule of this module for one budget."""
    fills = grid.fill_arms()
    remedies = [arm for arm in fills if not arm.recipe.uses_synthetic and not arm.recipe.uses_extra]
    remedy = choose(table, budget, [*grid.classic_arms(), *remedies], _CHOOSES)
    candidates = [arm for arm in fills if arm.recipe.uses_synthetic]
    row: dict[str, Any] = {"budget": budget, "best_remedy": remedy.arm.name}
    rare = " and ".join(f"class {name} ({100 * share:g} %)" for name, share in grid.imbalance.items())
    start = f"With {budget} real images and rare {rare}"
    if not candidates:
        return row | {
            "best_synthetic": None,
            "code": "nothing_to_compare",
            "verdict": f"{start}, no arm with synthetic images in the gap was trained.",
        }
    synthetic = choose(table, budget, candidates, _CHOOSES)
    on_validation, on_test, recall = (
        paired_columns(paired_choices(table, budget, synthetic.without, remedy.without, metric))
        for metric in (_CHOOSES, _MACRO_F1, _RARE_RECALL)
    )
    left = [arm.baseline for arm in synthetic.without if arm.baseline is not None]  # the gap left as it is
    over_real = paired_columns(paired_choices(table, budget, synthetic.without, left, _MACRO_F1))
    code = verdict_code(on_validation, on_test, over_real, helped=remedy.arm.name != "real")
    sentence = _sentence(
        code,
        remedy=remedy.arm,
        synthetic=synthetic.arm,
        on_test=on_test,
        recall=recall,
        over_real=over_real,
        recommends=sign_of(on_validation) == "above",
    )
    return row | {
        "best_synthetic": synthetic.arm.name,
        "judged_by": [
            {"replicate": replicate, "best_remedy": before.name, "best_synthetic": after.name}
            for replicate, before, after in zip(
                replicate_numbers(grid.replicates), remedy.without, synthetic.without, strict=True
            )
        ],
        "validation": on_validation,
        **on_test,
        "rare_recall": recall,
        "over_real": over_real,
        "code": code,
        "verdict": f"{start}, {sentence} ({basis_words(remedy, synthetic)}).",
    }


def _sentence(
    code: Code,
    *,
    remedy: DeclaredArm,
    synthetic: DeclaredArm,
    on_test: dict[str, Any],
    recall: dict[str, Any],
    over_real: dict[str, Any],
    recommends: bool,
) -> str:
    """What to do, and what it rests on."""
    instead = _remedy(remedy)
    policy = synthetic.policy
    images = "synthetic images in the gap" + (
        f" with {policy_words(policy)} augmentation" if policy != "none" else ""
    )
    change = (
        f"{change_words(on_test, f'points of macro-F1 against {instead}')},"
        f" and {change_words(recall, 'points of rare-class recall')}"
    )
    if code == "gain":
        return f"use {images}: {change}"
    if code == "too_few_replicates":
        return f"{images} gave {change}, which is no evidence: use {instead} until more replicates tell"
    if code == "gain_not_confirmed" and recommends:
        return f"validation, which chooses, recommends {images}, but test does not confirm it: {change}"
    if code == "gain_not_confirmed":
        return f"{images} gave {change}, but validation, which chooses, shows no gain: use {instead}"
    if code == "prefer_classic":
        gain = change_words(over_real, "points of macro-F1 over leaving the gap")
        return f"{images} gave {gain}, but {change}: prefer {instead}"
    if code == "harm":
        return f"{images} do harm: {change}; use {instead}"
    detectable = 100 * on_test["minimum_detectable_effect"]
    return (
        f"{images} have no detectable effect: {change}, where {detectable:.2f} points of macro-F1 would have been"
        f" found; use {instead}"
    )


def _remedy(arm: DeclaredArm) -> str:
    """What to do without synthetic images, as the object of "use"."""
    if arm.recipe.rare_only:
        return f'the arm "{arm.recipe.words}"'
    if arm.recipe.augmented:
        return f"{policy_words(arm.policy)} augmentation alone"
    return "the real images as they are"
