"""From the cells of a study to its verdict: which arm helps, by how much, and whether replicates can tell.

The rule, per budget:

1. Choose on validation: the classic arm and the synthetic arm with the highest mean validation accuracy.
   Ties go to fewer synthetic images, then to no augmentation.
2. Recommend, still on validation: the synthetic arm if its paired validation difference to the classic arm has
   an interval above zero. All else (one replicate, no detectable gain, harm) recommends the classic arm, which
   needs no generator.
3. Look at test once: the paired difference of these two arms, with its interval. It is one comparison, fixed
   before test was read, so the number of ratios that were tried needs no correction.

Test says how much the choice was worth, and whether it confirms the recommendation; it chooses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline.arms import Budget
from pipeline.evaluation.cells import ARM_WORDS, METRICS, DeclaredArm, Grid, cell_values
from pipeline.evaluation.statistics import CONFIDENCE, MeanInterval, mean_interval, paired_difference

if TYPE_CHECKING:
    from rich.table import Table

# candidate, baseline: the same training with and without synthetic images
_COMPARED = (("synthetic", "real"), ("synthetic_affine", "real_affine"), ("synthetic_only", "real"))
_READING = (
    "Both arms of a difference were chosen on validation; the interval is that of the two chosen, on test."
)
_DECIMALS = 6


def compare_cells(cells: pd.DataFrame, grid: Grid, *, test_images: int) -> dict[str, Any]:
    """Arms with intervals, paired comparisons, and a verdict per budget (JSON values; fractions 0..1).

    Args:
        cells: what `load_cells` returned.
        grid: the same declared study.
        test_images: the size of the test split, for the reader.
    """
    budgets = [_judge_budget(cells, grid, budget) for budget in grid.budgets]
    return {
        "replicates": grid.replicates,
        "test_images": test_images,
        "confidence": CONFIDENCE,
        "arms": [_arm_row(cells, budget, arm) for budget in grid.budgets for arm in grid.arms()],
        "comparisons": [
            _comparison_row(cells, budget, candidate, baseline, metric)
            for budget in grid.budgets
            for candidate, baseline in _compared_arms(grid)
            for metric in METRICS
        ],
        "budgets": budgets,
        "verdict": " ".join([row["verdict"] for row in budgets] + [_READING]),
    }


def verdict_table(comparison: dict[str, Any]) -> Table:
    """The arms and their paired differences for a terminal of 80 columns; a star recommends."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    replicates = (
        "one replicate" if comparison["replicates"] == 1 else f"{comparison['replicates']} replicates"
    )
    table = Table(
        title=f"Validation and test accuracy in %, mean of {replicates}",
        caption="* recommended   Δ: points of test accuracy that synthetic images changed",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    for name in ("real", "arm", "ratio"):
        table.add_column(name, no_wrap=True)
    for name in ("val.", "test", "Δ", f"{100 * comparison['confidence']:.0f} % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    differences = {
        (row["budget"], row["candidate"], row["synthetic_per_real"]): row
        for row in comparison["comparisons"]
        if row["metric"] == "test_accuracy" and row["synthetic_per_real"]
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
            ("* " if key in recommended else "  ") + ARM_WORDS[row["arm"]],
            str(row["synthetic_per_real"]) if row["synthetic_per_real"] else "",
            f"{100 * row['validation_accuracy']:.2f}",
            f"{100 * row['test_accuracy']:.2f}",
            points(difference["mean_difference"]) if difference else "",
            points_interval(difference["low"], difference["high"]) if difference else "",
            style="bold" if key in recommended else None,
        )
    return table


def points(fraction: float) -> str:
    """A difference of fractions in signed percentage points: 0.0005 is `+0.05`."""
    return f"{round(100 * fraction, 2) + 0.0:+.2f}".replace("-", "−")


def points_interval(low: float | None, high: float | None) -> str:
    """The interval of a difference, `−0.20 to +0.30`; a dash where one replicate gives none."""
    return "–" if low is None or high is None else f"{points(low)} to {points(high)}"


def percent_interval(low: float | None, high: float | None) -> str:
    """The interval of an accuracy in percent, `96.10 to 97.30`; a dash where one replicate gives none."""
    return "–" if low is None or high is None else f"{100 * low:.2f} to {100 * high:.2f}"


def _judge_budget(cells: pd.DataFrame, grid: Grid, budget: Budget) -> dict[str, Any]:
    """The rule of this module for one budget."""
    classic = _best_on_validation(cells, budget, grid.classic_arms())
    row: dict[str, Any] = {"budget": budget, "best_classic": _arm_key(classic)}
    if not grid.added_arms():
        return row | {
            "best_synthetic": None,
            "recommended": _arm_key(classic),
            **_interval_columns(None),
            "outcome": "nothing to compare",
            "verdict": f"With {budget} real images, no arm with synthetic images was trained:"
            " study.synthetic_per_real has no value above 0.",
        }
    synthetic = _best_on_validation(cells, budget, grid.added_arms())
    columns = _interval_columns(
        paired_difference(
            baseline=cell_values(cells, budget, classic, "test_accuracy"),
            candidate=cell_values(cells, budget, synthetic, "test_accuracy"),
        )
    )
    on_validation = _interval_columns(
        paired_difference(
            baseline=cell_values(cells, budget, classic, "validation_accuracy"),
            candidate=cell_values(cells, budget, synthetic, "validation_accuracy"),
        )
    )
    recommends = _outcome(on_validation) == "gain"
    outcome = _outcome(columns)
    return row | {
        "best_synthetic": _arm_key(synthetic),
        "recommended": _arm_key(synthetic if recommends else classic),
        "validation": on_validation,
        **columns,
        "outcome": outcome,
        "verdict": _verdict(
            budget, classic, synthetic, grid.replicates, columns, outcome, recommends=recommends
        ),
    }


def _outcome(difference: dict[str, float | None]) -> str:
    """What the interval of a paired difference says. Its rounded ends decide: the file can be checked."""
    low, high = difference["low"], difference["high"]
    # Without width, replicates agree by chance (few images): their spread cannot be judged.
    if low is None or high is None or low == high:
        return "not evidence"
    if low > 0:
        return "gain"
    return "harm" if high < 0 else "no detectable gain"


def _verdict(
    budget: Budget,
    classic: DeclaredArm,
    synthetic: DeclaredArm,
    replicates: int,
    columns: dict[str, Any],
    outcome: str,
    *,
    recommends: bool,
) -> str:
    """One sentence for a colleague: what was compared, what came out, what to do."""
    low, high = columns["low"], columns["high"]
    change = (
        f"{_change(classic, synthetic)} changed test accuracy by {points(columns['mean_difference'])} points"
    )
    spread = f"{100 * CONFIDENCE:.0f} % interval {points_interval(low, high)}, {replicates} replicates"
    alone = {"real": "the real images alone", "real_affine": "affine augmentation alone"}[classic.name]
    beside = "with affine augmentation" if synthetic.name == "synthetic_affine" else "to the real images"
    if low is None:
        spread = "one replicate only, no interval"
        outcome = f"{outcome}; use {alone} until more replicates show a gain"
    elif outcome == "not evidence":
        outcome = f"{outcome}, for equal differences leave no spread to judge by; use {alone}"
    elif recommends and outcome == "gain":
        outcome = f"a gain; add {_images(synthetic)} {beside}"
    elif recommends:
        outcome = f"{outcome}; validation, which chooses, recommends them, and test does not confirm it"
    elif outcome == "gain":
        outcome = f"a gain on test, but validation, which chooses, shows none; use {alone}"
    else:
        outcome = f"{outcome}; use {alone}"
    return f"With {budget} real images, {change} ({spread}): {outcome}."


def _change(classic: DeclaredArm, synthetic: DeclaredArm) -> str:
    if classic.classic_augmentation == synthetic.classic_augmentation:
        beside = "affine augmentation" if classic.name == "real_affine" else "the real images"
        return f"adding {_images(synthetic)} to {beside}"
    if synthetic.name == "synthetic_affine":
        return f"adding {_images(synthetic)} and affine augmentation to the real images"
    return f"{_images(synthetic)} in place of affine augmentation"


def _images(arm: DeclaredArm) -> str:
    return f"{arm.synthetic_per_real} synthetic images per real one"


def _best_on_validation(cells: pd.DataFrame, budget: Budget, arms: Sequence[DeclaredArm]) -> DeclaredArm:
    def rank(arm: DeclaredArm) -> tuple[float, float, bool]:
        return (
            -_validation_mean(cells, budget, arm),
            arm.synthetic_per_real,
            arm.classic_augmentation != "none",
        )

    return min(arms, key=rank)


def _validation_mean(cells: pd.DataFrame, budget: Budget, arm: DeclaredArm) -> float:
    """Rounded, so that the last bit of a sum decides no tie."""
    return round(float(cell_values(cells, budget, arm, "validation_accuracy").mean()), _DECIMALS)


def _compared_arms(grid: Grid) -> list[tuple[DeclaredArm, DeclaredArm]]:
    """(candidate, baseline): affine against none, then each synthetic arm against its own, ratio by ratio."""
    return [(DeclaredArm("real_affine", 0), DeclaredArm("real", 0))] + [
        (DeclaredArm(candidate, ratio), DeclaredArm(baseline, 0))
        for ratio in grid.positive_ratios
        for candidate, baseline in _COMPARED
    ]


def _arm_row(cells: pd.DataFrame, budget: Budget, arm: DeclaredArm) -> dict[str, Any]:
    row: dict[str, Any] = {
        "budget": budget,
        **_arm_key(arm),
        "classic_augmentation": arm.classic_augmentation,
        "validation_accuracy": _validation_mean(cells, budget, arm),
    }
    for metric in METRICS:
        interval = mean_interval(cell_values(cells, budget, arm, metric))
        row["replicates"] = interval.n
        row[metric] = _rounded(interval.mean)
        row[f"{metric}_low"], row[f"{metric}_high"] = _rounded(interval.low), _rounded(interval.high)
    return row


def _comparison_row(
    cells: pd.DataFrame, budget: Budget, candidate: DeclaredArm, baseline: DeclaredArm, metric: str
) -> dict[str, Any]:
    before, after = (cell_values(cells, budget, arm, metric) for arm in (baseline, candidate))
    return {
        "budget": budget,
        "candidate": candidate.name,
        "baseline": baseline.name,
        "synthetic_per_real": candidate.synthetic_per_real,
        "classic_augmentation": candidate.classic_augmentation,
        "metric": metric,
        "replicates": len(before),
        "differences": [_rounded(float(difference)) for difference in after - before],
        **_interval_columns(paired_difference(baseline=before, candidate=after)),
    }


def _interval_columns(difference: MeanInterval | None) -> dict[str, float | None]:
    mean, low, high = (difference.mean, difference.low, difference.high) if difference else (None, None, None)
    return {"mean_difference": _rounded(mean), "low": _rounded(low), "high": _rounded(high)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS) + 0.0  # + 0.0: no −0.0 in the file


def _arm_key(arm: DeclaredArm) -> dict[str, Any]:
    return {"arm": arm.name, "synthetic_per_real": arm.synthetic_per_real}
