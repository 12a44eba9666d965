"""From the cells of a study to its verdict: which arm helps, by how much, and whether replicates can show it.

Per budget, validation chooses the arm without synthetic images (with a pool, also among those that use it) and the arm
with synthetic images (and with it the ratio) that have the highest mean of `study.metric`. Ties go to fewer synthetic
images, then to no pool, then to no augmentation. `judgement` has the rule
that follows. Where it recommends no synthetic images (one replicate, no detectable gain, harm), the classic arm is
recommended, which needs no generator.

The verdict rests on one difference per budget. To compare arms and ratios side by side, read the p-values after Holm:
the family is the whole table, of one metric (arms for rare classes: a family of their own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline.augmentation.policies import POLICIES
from pipeline.comparison.cells import (
    cell_values,
    labels_that_choose,
    left_out_arms,
    rows_of_arm,
    trained_arms,
)
from pipeline.comparison.choice import Choice, choose
from pipeline.comparison.judgement import (
    CODES,
    Judgement,
    Wording,
    judge,
    judged_columns,
    judgement_columns,
    verdict_words,
)
from pipeline.comparison.real_image_equivalents import real_image_equivalents
from pipeline.comparison.rows import (
    PAIRED_COLUMNS,
    arm_key,
    comparison_rows,
    holm_families,
    metric_columns,
    paired_arms,
    paired_columns,
    rounded,
    with_holm,
)
from pipeline.comparison.texts import change_words, p_value, points, points_interval
from pipeline.statistics import CONFIDENCE, POWER, sampling_error
from pipeline.study.arms import ARMS, policy_words
from pipeline.study.grid import DeclaredArm, Grid
from pipeline.study.metric import WORDS, Metric, columns_on_test, few_labels_column
from pipeline.study.subsets import Budget

if TYPE_CHECKING:
    from rich.table import Table

_READING = "Arms and ratio are chosen on validation; each replicate is judged on test by the choice of those before it."
_TWO_VALUES = (
    "An interval of two replicates rests on one difference: take it for an order of magnitude, and run more."
)
_WITH_A_COLLAPSE = {
    "gain_not_confirmed": f"{CODES['gain_not_confirmed']}, or a GAN collapsed",
}
_TOO_FEW_OTHERS = "the train split has too few other real images"
_SELF_TRAINING_COLLAPSED = (
    "self-training collapsed: no pseudo-label was sure enough, or all were of one class"
)


def compare_cells(cells: pd.DataFrame, grid: Grid, *, test_images: int) -> dict[str, Any]:
    """Arms with intervals, paired comparisons, and a verdict per budget (JSON values; fractions 0..1).

    Args:
        cells: what `load_cells` returned.
        grid: the same declared study.
        test_images: the size of the test split.
    """
    budgets = [_judge_budget(cells, grid, budget) for budget in grid.budgets]
    arms = [
        _arm_row(cells, budget, arm, grid.metric)
        for budget in grid.budgets
        for arm in trained_arms(cells, grid, budget)
    ]
    best = max(row["test_accuracy"] for row in arms)
    comparisons = with_holm(
        [
            row
            for budget in grid.budgets
            for row in comparison_rows(
                cells, budget, trained_arms(cells, grid, budget), columns_on_test(grid.metric)
            )
        ]
    )
    reading = " ".join([_READING, *([_TWO_VALUES] if _rests_on_two(arms, budgets) else [])])
    return {
        # The first version had accuracy alone, and did not say so.
        **({} if grid.metric == "accuracy" else {"metric": grid.metric}),
        "replicates": grid.replicates,
        "test_images": test_images,
        "test_sampling_error": {
            "accuracy": best,
            "standard_error": rounded(sampling_error(best, test_images)),
        },
        "confidence": CONFIDENCE,
        "power": POWER,
        "codes": CODES | (_WITH_A_COLLAPSE if any(row.get("collapsed") for row in budgets) else {}),
        "arms": arms,
        "left_out": [
            {"budget": budget, **arm_key(arm), "reason": _why_left_out(arm)}
            for budget in grid.budgets
            for arm in left_out_arms(cells, grid, budget)
        ],
        "comparisons": comparisons,
        "holm_families": holm_families(comparisons),
        "worth_in_real_images": [
            row
            for budget in grid.budgets
            for row in real_image_equivalents(
                cells, budget, trained_arms(cells, grid, budget), f"test_{grid.metric}"
            )
        ],
        "budgets": budgets,
        "reading": reading,
        "verdict": " ".join([row["verdict"] for row in budgets] + [reading]),
    }


def _why_left_out(arm: DeclaredArm) -> str:
    return _TOO_FEW_OTHERS if arm.recipe.uses_extra else _SELF_TRAINING_COLLAPSED


def _rests_on_two(arms: Sequence[Mapping[str, Any]], budgets: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an interval of an arm, or of a verdict (whose first replicate may only choose), has two values."""
    return any(row["replicates"] == 2 for row in arms) or any(
        len(row.get("judged_by", [])) == 2 for row in budgets
    )


def verdict_table(comparison: dict[str, Any]) -> Table:
    """The arms and their paired differences for a terminal of 80 columns; a star recommends."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    metric: Metric = comparison.get("metric", "accuracy")
    family = next(row for row in comparison["holm_families"] if row["metric"] == f"test_{metric}")
    replicates = replicate_words(comparison)
    table = Table(
        title=f"Validation and test {WORDS[metric]} in %, mean of {replicates}",
        caption="* recommended   Δ: change in points, against the same without synthetic images; of classic arms and"
        " of synthetic only, against real only   An interval is for its row alone; p allows for all"
        f" {family['comparisons']} comparisons. Rows have all replicates; the verdict leaves out one that only chose.",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    table.add_column("real", no_wrap=True)
    table.add_column("arm")  # the only one that wraps
    table.add_column("ratio", no_wrap=True)
    for name in ("val.", "test", "Δ", f"{100 * comparison['confidence']:.0f} % interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    differences = {
        (row["budget"], row["candidate"], row["synthetic_per_real"]): row
        for row in comparison["comparisons"]
        if row["metric"] == f"test_{metric}"
    }
    recommended = {
        (row["budget"], row["recommended"]["arm"], row["recommended"]["synthetic_per_real"])
        for row in comparison["budgets"]
    }
    budget = None
    for row in comparison["arms"]:
        if budget not in (None, row["budget"]):
            table.add_section()
        budget = row["budget"]
        key = (budget, row["arm"], row["synthetic_per_real"])
        difference = differences.get(key)
        table.add_row(
            str(budget),
            ("* " if key in recommended else "  ") + ARMS[row["arm"]].words,
            str(row["synthetic_per_real"]) if row["synthetic_per_real"] else "",
            f"{100 * row[f'validation_{metric}']:.2f}",
            f"{100 * row[f'test_{metric}']:.2f}",
            points(difference["mean_difference"]) if difference else "",
            points_interval(difference["low"], difference["high"]) if difference else "",
            p_value(difference["p_holm"]) if difference else "",
            style="bold" if key in recommended else None,
        )
    return table


def replicate_words(comparison: Mapping[str, Any]) -> str:
    """`one replicate`, `3 replicates`; `2 to 3 replicates` where budgets differ by those that are left out."""
    counts = sorted({row["replicates"] for row in comparison["arms"]})
    if counts == [1]:
        return "one replicate"
    return f"{' to '.join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))} replicates"


def collapse_columns(grid: Grid, budget: Budget) -> dict[str, Any]:
    """What a budget's row of `comparison.json` says of GANs that collapsed; nothing if none did."""
    gans = grid.gans_of(budget)
    if not gans.collapsed:
        return {}
    return gans.facts() | {"left_out_replicates": gans.left_out, "collapse": gans.words}


def verdicts(comparison: dict[str, Any]) -> list[str]:
    """The sentence of each budget, those on rare classes first."""
    rare = comparison["imbalance"]["budgets"] if "imbalance" in comparison else []
    return [row["verdict"] for row in (*rare, *comparison["budgets"])]


def _judge_budget(cells: pd.DataFrame, grid: Grid, budget: Budget) -> dict[str, Any]:
    """The rule of this module for one budget."""
    chooses = f"validation_{grid.metric}"
    classic = _chosen(cells, budget, grid.arms_without_generator(), chooses)
    gans = grid.gans_of(budget)
    row = {"budget": budget, "best_classic": arm_key(classic.arm), **collapse_columns(grid, budget)}
    added = _with_cells(cells, budget, grid.added_arms())
    if not added:
        return row | {
            "best_synthetic": None,
            "recommended": arm_key(classic.arm),
            **dict.fromkeys(PAIRED_COLUMNS),
            "code": "nothing_to_compare",
            "verdict": f"With {budget} real images, no arm with real and synthetic images was trained:"
            " study.synthetic_per_real has no value above 0, or study.arms no such arm"
            f"{f' ({gans.words})' if gans.words else ''}.",
        }
    synthetic = _chosen(cells, budget, added, chooses)
    judgement = judge(
        cells,
        budget,
        baseline=classic,
        candidate=synthetic,
        metric=grid.metric,
        over_real=_plain_over_real(cells, grid, budget, synthetic.arm),
        collapsed=gans.words,
    )
    few = _with_few_labels(cells, grid, budget)
    return row | {
        "best_synthetic": arm_key(synthetic.arm),
        "recommended": arm_key(synthetic.arm if judgement.rule.recommends else classic.arm),
        **judgement_columns(judgement, replicates=grid.replicates_of(budget), baseline_column="best_classic"),
        **few,
        "verdict": f"With {budget} real images, {verdict_words(judgement, _wording(judgement, grid.metric))}"
        + _few_words(few.get("few_labels"), judgement, grid.metric)
        + gans.caveat,
    }


def _with_few_labels(cells: pd.DataFrame, grid: Grid, budget: Budget) -> dict[str, Any]:
    """What the choice costs that a team with as many validation labels as training labels can make.

    Returns:
        `few_labels`: how many, the arms that they choose, and the paired difference on test of these choices; nothing
        where the study chose with no more.
    """
    labels, own = labels_that_choose(cells, budget)
    if labels <= own:
        return {}
    classic, synthetic = (
        _chosen(cells, budget, arms, few_labels_column(grid.metric))
        for arms in (grid.arms_without_generator(), grid.added_arms())
    )
    difference = judged_columns(cells, budget, synthetic.before, classic.before, f"test_{grid.metric}")
    few = {"labels": own, "best_classic": arm_key(classic.arm), "best_synthetic": arm_key(synthetic.arm)}
    return {"few_labels": few | difference}


def _few_words(few: Mapping[str, Any] | None, judgement: Judgement, metric: Metric) -> str:
    """The sentence on the choice with few labels; empty where there is none."""
    if few is None:
        return ""
    start = f" With only {few['labels']} of these labels"
    arms = [DeclaredArm.of_row(few[name]) for name in ("best_synthetic", "best_classic")]
    change = change_words(few, f"points of test {WORDS[metric]}")
    if arms != [judgement.candidate.arm, judgement.baseline.arm]:
        return f"{start} the choice would be {' against '.join(map(str, arms))}: {change}."
    same = "mean_difference", "low", "high"
    if all(few[name] == judgement.on_test[name] for name in same):
        return f"{start} the choice and the result are the same."
    return f"{start} the choice is the same, but not in each replicate: {change}."


def _plain_over_real(
    cells: pd.DataFrame, grid: Grid, budget: Budget, synthetic: DeclaredArm
) -> dict[str, Any] | None:
    """What synthetic images alone do to real images alone, at the ratio of an arm: augmentation has no part in it."""
    plain = DeclaredArm("synthetic", synthetic.synthetic_per_real)
    if plain not in grid.added_arms():
        return None
    return paired_columns(paired_arms(cells, budget, plain, DeclaredArm("real", 0), f"test_{grid.metric}"))


def _wording(judgement: Judgement, metric: Metric) -> Wording:
    """The words for the choices of a budget."""
    classic, synthetic = judgement.baseline.arm, judgement.candidate.arm
    against = _against(classic, synthetic)
    over_real: Mapping[str, Any] = judgement.over_real or judgement.on_test
    gain = change_words(over_real, f"points of test {WORDS[metric]} over real only")
    # What is known over real only is of the plain arm of this ratio; the chosen one may show its images otherwise.
    others = f"{kind}ones " if (kind := _kind(synthetic)) else ""
    return Wording(
        images=_images(synthetic),
        images_in_use=f"{_images(synthetic)}{_with(synthetic)}",
        instead=_instead(classic),
        change=change_words(judgement.on_test, f"points of test {WORDS[metric]} {against}"),
        gain_over_real=f"{synthetic.synthetic_per_real} synthetic images per real one gave {gain}",
        change_beside_gain=f"{others}{change_words(judgement.on_test, against)}",
        unit="points",
    )


def _instead(classic: DeclaredArm) -> str:
    """An arm without synthetic images, as what to use."""
    if classic.recipe.pool:
        return f"the real images and the {classic.recipe.pool_words}{_with_policy(classic)}"
    return f"{_policy(classic.policy)} alone" if classic.policy != "none" else "the real images alone"


def _against(classic: DeclaredArm, synthetic: DeclaredArm) -> str:
    """What the chosen arms differ in, as the end of "+0.3 points of test accuracy"."""
    if classic.recipe.pool or synthetic.recipe.pool:
        return f"against {classic.recipe.words}"
    before, after = classic.policy, synthetic.policy
    if before == after:
        return "over real only" if before == "none" else f"on top of {_policy(before)}"
    if before == "none":
        return f"with {_policy(after)}, over real only"
    together = "" if after == "none" else f"with {_policy(after)}, "
    return f"{together}against {_policy(before)}"


def _policy(policy: str) -> str:
    return f"{policy_words(policy)} augmentation"


def _with(synthetic: DeclaredArm) -> str:
    pool = f" and the {synthetic.recipe.pool_words}," if synthetic.recipe.pool else ""
    return f"{pool}{_with_policy(synthetic)}"


def _with_policy(arm: DeclaredArm) -> str:
    return "" if arm.policy == "none" else f" with {_policy(arm.policy)}"


def _images(arm: DeclaredArm) -> str:
    return f"{arm.synthetic_per_real} {_kind(arm)}synthetic images per real one"


def _kind(arm: DeclaredArm) -> str:
    return "fresh " * arm.recipe.fresh + "filtered " * arm.recipe.filtered


def _with_cells(cells: pd.DataFrame, budget: Budget, arms: Sequence[DeclaredArm]) -> list[DeclaredArm]:
    """The arms that were trained: not those whose self-training collapsed."""
    return [arm for arm in arms if len(rows_of_arm(cells, budget, arm))]


def _chosen(cells: pd.DataFrame, budget: Budget, arms: Sequence[DeclaredArm], column: str) -> Choice:
    """On a column of validation; of equal arms the one with fewer synthetic images, then no pool, then less change."""
    policies = tuple(POLICIES)

    def rank(arm: DeclaredArm) -> tuple[float, bool, int]:
        return arm.synthetic_per_real, bool(arm.recipe.pool), policies.index(arm.policy)

    return choose(cells, budget, sorted(_with_cells(cells, budget, arms), key=rank), column)


def _arm_row(cells: pd.DataFrame, budget: Budget, arm: DeclaredArm, metric: Metric) -> dict[str, Any]:
    chooses = f"validation_{metric}"
    rows = rows_of_arm(cells, budget, arm)
    return {
        "budget": budget,
        **arm_key(arm),
        "classic_augmentation": arm.policy,
        "replicates": len(rows),
        "training_images": int(rows["training_images"].iloc[0]),
        "optimizer_steps": int(rows["optimizer_steps"].iloc[0]),
        "batch_size": int(rows["batch_size"].iloc[0]),
        chooses: rounded(float(cell_values(cells, budget, arm, chooses).mean())),
        **metric_columns(cells, budget, arm, columns_on_test(metric)),
    }
