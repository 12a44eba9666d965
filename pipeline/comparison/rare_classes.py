"""Rare classes: whether synthetic images fill their gap better than what needs no generator.

Rare are the classes that `study.imbalance` names. Where it names none, those are rare by nature that have less than
half as many test images as the largest class: the splits are stratified.

The rule is that of `judgement`. Validation chooses the best arm with synthetic images, in the gap or of all classes,
and the best rival that needs none: the real subset as it is, classic augmentation and mixup, repeated images, class
weights from the start or at the end, balanced sampling, adjusted logits. Of equal arms it chooses the first.

`study.metric` decides, but for accuracy, in whose place is macro-F1: every class counts in it as much as any, and a
class that is claimed too often lowers it. The recall of the rare classes alone could be raised by claiming them always:
it is reported too, class by class. To compare all arms, read the p-values after Holm: the family is the whole table,
of one metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from pipeline.comparison.cells import KEY_COLUMNS, trained_arms
from pipeline.comparison.choice import choose
from pipeline.comparison.judgement import (
    Judgement,
    Wording,
    judge,
    judged_columns,
    judgement_columns,
    verdict_words,
)
from pipeline.comparison.rows import (
    arm_key,
    comparison_rows,
    holm_families,
    metric_columns,
    with_holm,
)
from pipeline.comparison.texts import change_words
from pipeline.errors import SynthGainError
from pipeline.study.arms import policy_words
from pipeline.study.grid import DeclaredArm, Grid
from pipeline.study.metric import WORDS, Metric
from pipeline.study.subsets import Budget

_RARE_RECALL = "test_rare_recall"
_RARE_BELOW = 0.5  # of the largest class
_NAMED_CLASSES = 4  # in a sentence


def with_imbalance(
    comparison: dict[str, Any], cells: pd.DataFrame, confusion: pd.DataFrame, grid: Grid
) -> dict[str, Any]:
    """The comparison with its section `imbalance`, whose verdicts come first; as it is where no class is rare.

    Where classes are rare by nature and accuracy decides, it says so in `unequal_classes` too.

    Raises:
        SynthGainError: as `compare_imbalance`.
    """
    by_nature = {} if grid.imbalance else natural_rare_classes(confusion)
    if not (grid.imbalance or grid.fill_arms() or by_nature):
        return comparison
    rare = compare_imbalance(cells, confusion, grid)
    verdicts = [row["verdict"] for row in rare["budgets"]]
    comparison = {**comparison, "imbalance": rare}
    if by_nature and grid.metric == "accuracy":
        largest = counts_on_test(confusion).max() / counts_on_test(confusion).sum()
        warning = (
            f"Classes are unequal: the largest has {100 * largest:.0f} % of the test images, and accuracy counts it so"
            " much. study.metric balanced_accuracy counts every class alike."
        )
        comparison |= {"unequal_classes": warning, "reading": f"{comparison['reading']} {warning}"}
        verdicts.append(warning)
    return {**comparison, "verdict": " ".join([*verdicts, comparison["verdict"]])}


def compare_imbalance(cells: pd.DataFrame, confusion: pd.DataFrame, grid: Grid) -> dict[str, Any]:
    """The section of `comparison.json` on rare classes (JSON values; fractions 0..1).

    Args:
        cells: what `load_cells` returned.
        confusion: what `load_confusion` returned.
        grid: the declared study.

    Raises:
        SynthGainError: if a rare class is not among the classes of `confusion`.
    """
    classes = dict(grid.imbalance) or natural_rare_classes(confusion) or _smallest_class(confusion)
    table = with_recalls(cells, confusion, tuple(classes))
    metrics = (*(_recall_column(name) for name in classes), _RARE_RECALL, f"test_{deciding_metric(grid)}")
    comparisons = with_holm(
        [
            row
            for budget in grid.budgets
            for metric in metrics
            for row in comparison_rows(table, budget, _compared_arms(table, grid, budget), [metric])
        ]
    )
    return {
        "classes": classes,
        "metrics": list(metrics),
        "arms": [
            {"budget": budget, **arm_key(arm), **metric_columns(table, budget, arm, metrics)}
            for budget in grid.budgets
            for arm in trained_arms(table, grid, budget)
        ],
        "comparisons": comparisons,
        "holm_families": holm_families(comparisons),
        # By nature, a class is rare whether or not an arm fills it.
        "budgets": [_judge_budget(table, grid, budget, classes) for budget in grid.budgets]
        if grid.imbalance or grid.fill_arms()
        else [],
    }


def deciding_metric(grid: Grid) -> Metric:
    """By which arms for rare classes are chosen and judged."""
    return "macro_f1" if grid.metric == "accuracy" else grid.metric


def natural_rare_classes(confusion: pd.DataFrame) -> dict[str, float]:
    """The classes that are rare by nature, and the share of the largest class's test images that each has."""
    return {name: share for name, share in _shares_of_largest(confusion).items() if share < _RARE_BELOW}


def _smallest_class(confusion: pd.DataFrame) -> dict[str, float]:
    """What arms that fill classes are about, where none is rare."""
    shares = _shares_of_largest(confusion)
    name = min(shares, key=lambda each: shares[each])
    return {name: shares[name]}


def _shares_of_largest(confusion: pd.DataFrame) -> dict[str, float]:
    counts = counts_on_test(confusion)
    return {str(name): float(share) for name, share in (counts / counts.max()).round(4).items()}


def counts_on_test(confusion: pd.DataFrame) -> pd.Series[int]:
    """The test images of each class, by name in label order: those that any one cell was judged on."""
    first = (confusion[KEY_COLUMNS] == confusion[KEY_COLUMNS].iloc[0]).all(axis=1)
    return confusion[first].groupby("actual", sort=False)["count"].sum()


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
        total = actual.groupby(KEY_COLUMNS)["count"].sum()
        right = actual[actual["predicted"] == name].groupby(KEY_COLUMNS)["count"].sum()
        recall = (right.reindex(total.index, fill_value=0) / total).rename(_recall_column(name))
        table = table.merge(recall.reset_index(), on=KEY_COLUMNS, how="left", validate="one_to_one")
        columns.append(_recall_column(name))
    return table.assign(**{_RARE_RECALL: table[columns].mean(axis=1)})


def _compared_arms(table: pd.DataFrame, grid: Grid, budget: Budget) -> list[DeclaredArm]:
    """Each remedy and each filling arm of a budget; where none is declared, all arms."""
    trained = trained_arms(table, grid, budget)
    return [arm for arm in trained if arm.recipe.rare_only] if grid.fill_arms() else trained


def _recall_column(name: str) -> str:
    return f"test_recall_{name}"


def _judge_budget(
    table: pd.DataFrame, grid: Grid, budget: Budget, classes: Mapping[str, int | float]
) -> dict[str, Any]:
    """The rule of this module for one budget."""
    metric = deciding_metric(grid)
    chooses = f"validation_{metric}"
    fills = grid.fill_arms()
    remedies = [arm for arm in fills if not arm.recipe.uses_synthetic and not arm.recipe.uses_extra]
    remedy = choose(table, budget, [*grid.classic_arms(), *remedies], chooses)
    candidates = [*(arm for arm in fills if arm.recipe.uses_synthetic), *grid.added_arms()]
    row: dict[str, Any] = {"budget": budget, "best_remedy": arm_key(remedy.arm)}
    collapsed = grid.gans_of(budget).words
    rare = "rare" if grid.imbalance or min(classes.values()) < _RARE_BELOW else "as the smallest"
    start = f"With {budget} real images and {rare} {_rare_words(classes, by_nature=not grid.imbalance)}"
    if not candidates:
        return row | {
            "best_synthetic": None,
            "recommended": arm_key(remedy.arm),
            "code": "nothing_to_compare",
            "verdict": f"{start}, no arm with synthetic images was trained"
            f"{f' ({collapsed})' if collapsed else ''}.",
        }
    synthetic = choose(table, budget, candidates, chooses)
    gap_left = [arm and arm.baseline for arm in synthetic.before]

    def difference(baselines: Sequence[DeclaredArm | None], column: str) -> dict[str, Any]:
        return judged_columns(table, budget, synthetic.before, baselines, column)

    recall, over_real = difference(remedy.before, _RARE_RECALL), difference(gap_left, f"test_{metric}")
    judgement = judge(
        table,
        budget,
        baseline=remedy,
        candidate=synthetic,
        metric=metric,
        over_real=over_real,
        collapsed=collapsed,
    )
    return row | {
        "best_synthetic": arm_key(synthetic.arm),
        "recommended": arm_key(synthetic.arm if judgement.rule.recommends else remedy.arm),
        **judgement_columns(judgement, replicates=grid.replicates_of(budget), baseline_column="best_remedy"),
        "rare_recall": recall,
        "recall_of_class": {name: difference(remedy.before, _recall_column(name)) for name in classes},
        "verdict": f"{start}, {verdict_words(judgement, _wording(judgement, recall, over_real, WORDS[metric]))}"
        + grid.gans_of(budget).caveat,
    }


def _rare_words(classes: Mapping[str, int | float], *, by_nature: bool) -> str:
    """`class 3 (5 %) and class 8 (1 %)`; of many classes the first ones."""
    of = " of the largest" if by_nature else ""
    named = [f"class {name} ({100 * share:g} %{of})" for name, share in classes.items()]
    if by_nature:
        more = len(named) - _NAMED_CLASSES
        named = [*named[:_NAMED_CLASSES], *([f"{more} more"] if more > 0 else [])]
    return " and ".join(named)


def _wording(
    judgement: Judgement, recall: Mapping[str, Any], over_real: Mapping[str, Any], metric: str
) -> Wording:
    """The words for the choices of a budget.

    Args:
        judgement: of these choices.
        recall: their paired difference in the mean recall of the rare classes.
        over_real: that of synthetic images to the gap as it is.
        metric: that decides, in words.
    """
    images, instead = _images(judgement.candidate.arm), _remedy(judgement.baseline.arm)
    change = (
        f"{change_words(judgement.on_test, f'points of {metric} against {instead}')},"
        f" and {change_words(recall, 'points of rare-class recall')}"
    )
    gain = change_words(over_real, f"points of {metric} over leaving the gap")
    return Wording(
        images=images,
        images_in_use=images,
        instead=instead,
        change=change,
        gain_over_real=f"{images} gave {gain}",
        change_beside_gain=change,
        unit=f"points of {metric}",
    )


def _images(arm: DeclaredArm) -> str:
    """The synthetic images of an arm, with all that is done beside them, as the object of "use"."""
    plain = DeclaredArm("fill_synthetic" if arm.recipe.rare_only else "synthetic", arm.synthetic_per_real)
    images = (
        "synthetic images in the gap"
        if arm.recipe.rare_only
        else f"{arm.synthetic_per_real} synthetic images per real one"
    )
    if arm == plain:
        return images
    if arm.recipe == replace(plain.recipe, policy=arm.policy):
        return f"{images} with {policy_words(arm.policy)} augmentation"
    return f'{images} by the arm "{arm.recipe.words}"'


def _remedy(arm: DeclaredArm) -> str:
    """What to do without synthetic images, as the object of "use"."""
    if arm.recipe.rare_only:
        return f'the arm "{arm.recipe.words}"'
    if arm.recipe.augmented:
        return f"{policy_words(arm.policy)} augmentation alone"
    return "the real images as they are"
