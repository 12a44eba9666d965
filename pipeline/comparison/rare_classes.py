"""Rare classes: whether synthetic images fill their gap better than what needs no generator.

The rule is that of `judgement`, with macro-F1 in the place of accuracy. Validation chooses the best arm with synthetic
images in the gap, and the best of those that need none: the real subset as it is, classic augmentation, repeated
images, class weights, affine copies. Of equal arms it chooses the first.

Macro-F1 decides, because every class counts in it as much as any, and a class that is claimed too often lowers it. The
recall of the rare classes alone could be raised by claiming them always: it is reported too, class by class. To compare
all arms, read the p-values after Holm: the family is the whole table, of one metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison.cells import subset_overlap, trained_arms
from pipeline.comparison.choice import choose, judged_differences
from pipeline.comparison.judgement import (
    Judgement,
    Wording,
    judge,
    judgement_columns,
    verdict_sentence,
)
from pipeline.comparison.rows import (
    arm_key,
    comparison_rows,
    holm_families,
    metric_columns,
    paired_columns,
    with_holm,
)
from pipeline.comparison.texts import change_words
from pipeline.errors import SynthGainError
from pipeline.statistics import paired_test
from pipeline.study.arms import policy_words
from pipeline.study.grid import DeclaredArm, Grid
from pipeline.study.subsets import Budget

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
    comparisons = with_holm(
        [
            row
            for budget in grid.budgets
            for metric in metrics
            for row in comparison_rows(table, budget, _trained_fills(table, grid, budget), [metric])
        ]
    )
    return {
        "classes": dict(grid.imbalance),
        "metrics": list(metrics),
        "arms": [
            {"budget": budget, **arm_key(arm), **metric_columns(table, budget, arm, metrics)}
            for budget in grid.budgets
            for arm in trained_arms(table, grid, budget)
        ],
        "comparisons": comparisons,
        "holm_families": holm_families(comparisons),
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


def _trained_fills(table: pd.DataFrame, grid: Grid, budget: Budget) -> list[DeclaredArm]:
    """Each remedy and each filling arm of a budget."""
    return [arm for arm in trained_arms(table, grid, budget) if arm.recipe.rare_only]


def _recall_column(name: str) -> str:
    return f"test_recall_{name}"


def _judge_budget(table: pd.DataFrame, grid: Grid, budget: Budget) -> dict[str, Any]:
    """The rule of this module for one budget."""
    fills = grid.fill_arms()
    remedies = [arm for arm in fills if not arm.recipe.uses_synthetic and not arm.recipe.uses_extra]
    remedy = choose(table, budget, [*grid.classic_arms(), *remedies], _CHOOSES)
    candidates = [arm for arm in fills if arm.recipe.uses_synthetic]
    row: dict[str, Any] = {"budget": budget, "best_remedy": remedy.arm.name}
    rare = " and ".join(f"class {name} ({100 * share:g} %)" for name, share in grid.imbalance.items())
    collapsed = grid.gans_of(budget).words
    start = f"With {budget} real images and rare {rare}"
    if not candidates:
        return row | {
            "best_synthetic": None,
            "code": "nothing_to_compare",
            "verdict": f"{start}, no arm with synthetic images in the gap was trained"
            f"{f' ({collapsed})' if collapsed else ''}.",
        }
    synthetic = choose(table, budget, candidates, _CHOOSES)
    gap_left = [arm and arm.baseline for arm in synthetic.before]
    differences = (
        judged_differences(table, budget, synthetic.before, baselines, metric)
        for baselines, metric in ((remedy.before, _RARE_RECALL), (gap_left, _MACRO_F1))
    )
    recall, over_real = (
        paired_columns(
            paired_test(
                baseline=np.zeros_like(values), candidate=values, overlap=subset_overlap(table, budget)
            )
        )
        for values in differences
    )
    judgement = judge(
        table,
        budget,
        baseline=remedy,
        candidate=synthetic,
        metric="macro_f1",
        over_real=over_real,
        collapsed=collapsed,
    )
    return row | {
        "best_synthetic": synthetic.arm.name,
        **judgement_columns(
            judgement,
            replicates=grid.replicates_of(budget),
            baseline_column="best_remedy",
            arm_value=lambda arm: arm.name,
        ),
        "rare_recall": recall,
        "verdict": f"{start}, {verdict_sentence(judgement, _wording(judgement, recall, over_real))}."
        + grid.gans_of(budget).caveat,
    }


def _wording(judgement: Judgement, recall: Mapping[str, Any], over_real: Mapping[str, Any]) -> Wording:
    """The words for the choices of a budget.

    Args:
        judgement: of these choices, by macro-F1.
        recall: their paired difference in the mean recall of the rare classes.
        over_real: that of synthetic images to the gap as it is, in macro-F1.
    """
    policy, instead = judgement.candidate.arm.policy, _remedy(judgement.baseline.arm)
    augmentation = f" with {policy_words(policy)} augmentation" if policy != "none" else ""
    images = f"synthetic images in the gap{augmentation}"
    change = (
        f"{change_words(judgement.on_test, f'points of macro-F1 against {instead}')},"
        f" and {change_words(recall, 'points of rare-class recall')}"
    )
    gain = change_words(over_real, "points of macro-F1 over leaving the gap")
    return Wording(
        images=images,
        images_in_use=images,
        instead=instead,
        change=change,
        gain_over_real=f"{images} gave {gain}",
        change_beside_gain=change,
        unit="points of macro-F1",
    )


def _remedy(arm: DeclaredArm) -> str:
    """What to do without synthetic images, as the object of "use"."""
    if arm.recipe.rare_only:
        return f'the arm "{arm.recipe.words}"'
    if arm.recipe.augmented:
        return f"{policy_words(arm.policy)} augmentation alone"
    return "the real images as they are"
