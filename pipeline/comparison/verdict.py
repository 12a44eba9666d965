"""From the cells of a study to its verdict: which arm helps, by how much, and whether replicates can tell.

The rule, per budget:

1. Choose on validation: the classic arm and the synthetic arm (and with it the ratio) with the highest mean
   validation accuracy. Ties go to fewer synthetic images, then to no augmentation.
2. Recommend, still on validation: the synthetic arm if the paired validation difference has an interval above
   zero. All else (one replicate, no detectable gain, harm) recommends the classic arm, which needs no generator.
3. Look at test once: the paired difference, with its interval.

Both differences are of the cross-fitted choice (`choice`): each replicate is judged by the arms that the others
chose, so that the number of arms and ratios that were tried flatters none. Whoever looks at the ratios side by
side instead reads the p-values after Holm, one family per arm, metric and budget (arms for rare classes: one of all).

Test says how much the choice was worth, and whether it confirms the recommendation; it chooses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from pipeline.augmentation.policies import POLICIES
from pipeline.comparison.cells import METRICS, cell_values, left_out_arms, rows_of_arm, trained_arms
from pipeline.comparison.cross_fitted_choice import Choice, choose, paired_choices
from pipeline.statistics import (
    CONFIDENCE,
    POWER,
    PairedTest,
    holm,
    mean_interval,
    paired_test,
    sampling_error,
)
from pipeline.study.arms import ARMS, policy_words
from pipeline.study.grid import DeclaredArm, Grid
from pipeline.study.subsets import Budget, replicate_numbers

if TYPE_CHECKING:
    from rich.table import Table

Code = Literal[
    "gain",
    "gain_not_confirmed",
    "prefer_classic",
    "no_detectable_effect",
    "harm",
    "too_few_replicates",
    "nothing_to_compare",
]
# What a verdict can be: the first that applies. "The chosen arms" are those that validation chose, for each replicate
# on the others: the best with synthetic images, and the best classic one.
CODES: dict[Code, str] = {
    "nothing_to_compare": "no arm with real and synthetic images was trained",
    "too_few_replicates": "one replicate, or replicates that agree by chance: no spread to judge by",
    "gain_not_confirmed": "the interval of the chosen arms' difference lies above 0 on one of validation and test only",
    "gain": "it lies above 0 on both",
    "prefer_classic": "synthetic images help over real only on test, but not over the best classic arm",
    "harm": "on test the interval lies below 0",
    "no_detectable_effect": "on test the interval holds 0: see the minimum detectable effect",
}

_CHOOSES = "validation_accuracy"
_READING = (
    "Arms and ratio are chosen on validation; each replicate is judged, on test, by the choice of the others."
)
_TOO_FEW_OTHERS = "the train split has too few other real images"
_DECIMALS = 6
# The columns of a paired comparison, in `comparison.json` (fractions, null where replicates cannot tell).
PAIRED_COLUMNS = (
    "mean_difference",
    "low",
    "high",
    "standard_deviation",
    "p",
    "p_sign_flip",
    "probability_of_improvement",
    "probability_of_improvement_low",
    "probability_of_improvement_high",
    "minimum_detectable_effect",
    "replicates_to_settle",
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
        _arm_row(cells, budget, arm) for budget in grid.budgets for arm in trained_arms(cells, grid, budget)
    ]
    best = max(row["test_accuracy"] for row in arms)
    return {
        "replicates": grid.replicates,
        "test_images": test_images,
        "test_sampling_error": {
            "accuracy": best,
            "standard_error": rounded(sampling_error(best, test_images)),
        },
        "confidence": CONFIDENCE,
        "power": POWER,
        "codes": CODES,
        "arms": arms,
        "left_out": [
            {"budget": budget, **_arm_key(arm), "reason": _TOO_FEW_OTHERS}
            for budget in grid.budgets
            for arm in left_out_arms(cells, grid, budget)
        ],
        "comparisons": [
            row
            for budget in grid.budgets
            for row in _comparison_rows(cells, budget, trained_arms(cells, grid, budget))
        ],
        "worth_in_real_images": [
            row
            for budget in grid.budgets
            for row in _worth_rows(cells, budget, trained_arms(cells, grid, budget))
        ],
        "budgets": budgets,
        "reading": _READING,
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
        caption="* recommended   Δ: points over the same training without   p: after Holm",
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
            ("* " if key in recommended else "  ") + ARMS[row["arm"]].words,
            str(row["synthetic_per_real"]) if row["synthetic_per_real"] else "",
            f"{100 * row['validation_accuracy']:.2f}",
            f"{100 * row['test_accuracy']:.2f}",
            points(difference["mean_difference"]) if difference else "",
            points_interval(difference["low"], difference["high"]) if difference else "",
            p_value(difference["p_holm"]) if difference else "",
            style="bold" if key in recommended else None,
        )
    return table


def verdicts(comparison: dict[str, Any]) -> list[str]:
    """The sentence of each budget, those on rare classes first."""
    rare = comparison["imbalance"]["budgets"] if "imbalance" in comparison else []
    return [row["verdict"] for row in (*rare, *comparison["budgets"])]


def points(fraction: float) -> str:
    """A difference of fractions in signed percentage points: 0.0005 is `+0.05`."""
    return f"{round(100 * fraction, 2) + 0.0:+.2f}".replace("-", "−")


def p_value(p: float | None) -> str:
    """`0.03`, `<0.001`; a dash where there is none."""
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def points_interval(low: float | None, high: float | None) -> str:
    """The interval of a difference, `−0.20 to +0.30`; a dash where one replicate gives none."""
    return "–" if low is None or high is None else f"{points(low)} to {points(high)}"


def percent_interval(low: float | None, high: float | None) -> str:
    """The interval of an accuracy in percent, `96.10 to 97.30`; a dash where one replicate gives none."""
    return "–" if low is None or high is None else f"{100 * low:.2f} to {100 * high:.2f}"


def _judge_budget(cells: pd.DataFrame, grid: Grid, budget: Budget) -> dict[str, Any]:
    """The rule of this module for one budget."""
    classic = _chosen(cells, budget, grid.classic_arms())
    row: dict[str, Any] = {"budget": budget, "best_classic": _arm_key(classic.arm)}
    if not grid.added_arms():
        return row | {
            "best_synthetic": None,
            "recommended": _arm_key(classic.arm),
            **dict.fromkeys(PAIRED_COLUMNS),
            "code": "nothing_to_compare",
            "verdict": f"With {budget} real images, no arm with real and synthetic images was trained:"
            " study.synthetic_per_real has no value above 0, or study.arms no such arm.",
        }
    synthetic = _chosen(cells, budget, grid.added_arms())
    on_validation, on_test = (
        paired_columns(paired_choices(cells, budget, synthetic.without, classic.without, column))
        for column in (_CHOOSES, "test_accuracy")
    )
    # Of the same ratio, what synthetic images alone do to real images alone: augmentation has no part in it.
    plain = DeclaredArm("synthetic", synthetic.arm.synthetic_per_real)
    over_real = (
        paired_columns(paired_arms(cells, budget, plain, DeclaredArm("real", 0), "test_accuracy"))
        if plain in grid.added_arms()
        else None
    )
    recommends = sign_of(on_validation) == "above"
    helped = classic.arm.policy != "none"
    code = verdict_code(on_validation, on_test, over_real, helped=helped)
    sentence = _sentence(code, classic.arm, synthetic.arm, on_test, over_real, recommends=recommends)
    return row | {
        "best_synthetic": _arm_key(synthetic.arm),
        "recommended": _arm_key(synthetic.arm if recommends else classic.arm),
        "judged_by": [
            {"replicate": replicate, "best_classic": _arm_key(before), "best_synthetic": _arm_key(after)}
            for replicate, before, after in zip(
                replicate_numbers(grid.replicates), classic.without, synthetic.without, strict=True
            )
        ],
        "validation": on_validation,
        **on_test,
        "over_real": over_real,
        "code": code,
        "verdict": f"With {budget} real images, {sentence} ({basis_words(classic, synthetic)}).",
    }


def verdict_code(
    on_validation: dict[str, Any],
    on_test: dict[str, Any],
    over_real: dict[str, Any] | None,
    *,
    helped: bool,
) -> Code:
    """Which of the closed set of verdicts the paired columns of two chosen arms give.

    Args:
        on_validation, on_test: of the arm with synthetic images against the best one without.
        over_real: of synthetic images against the plain real subset, on test; None: unknown.
        helped: whether the best arm without synthetic images is more than the plain real subset.
    """
    validation, test = sign_of(on_validation), sign_of(on_test)
    if test == "unknown":
        return "too_few_replicates"
    if (validation == "above") != (test == "above"):
        return "gain_not_confirmed"
    if test == "above":
        return "gain"
    if helped and over_real and sign_of(over_real) == "above":
        return "prefer_classic"
    return "harm" if test == "below" else "no_detectable_effect"


def sign_of(difference: dict[str, Any]) -> Literal["above", "below", "around", "unknown"]:
    """Where the interval lies with respect to 0. Its rounded ends decide: the file can be checked."""
    low, high = difference["low"], difference["high"]
    # Without width, replicates agree by chance (few images): their spread cannot be judged.
    if low is None or high is None or low == high:
        return "unknown"
    if low > 0:
        return "above"
    return "below" if high < 0 else "around"


def _sentence(
    code: Code,
    classic: DeclaredArm,
    synthetic: DeclaredArm,
    on_test: dict[str, Any],
    over_real: dict[str, Any] | None,
    *,
    recommends: bool,
) -> str:
    """What to do, what it rests on, and against what: a sentence for a colleague, without its beginning."""
    augmentation = classic.policy
    alone = f"{_policy(augmentation)} alone" if augmentation != "none" else "the real images alone"
    images = _images(synthetic)
    against = _against(classic, synthetic)
    change = change_words(on_test, f"points of test accuracy {against}")
    if code == "gain":
        sentence = f"use {images}{_with(synthetic)}: {change}"
    elif code == "too_few_replicates":
        lack = (
            "one replicate has no interval"
            if on_test["low"] is None
            else "equal differences leave no spread to judge by"
        )
        sentence = (
            f"{images} gave {change}, which is no evidence ({lack}): use {alone} until more replicates tell"
        )
    elif code == "gain_not_confirmed" and recommends:
        sentence = (
            f"validation, which chooses, recommends {images}{_with(synthetic)},"
            f" but test does not confirm it: {change}"
        )
    elif code == "gain_not_confirmed":
        sentence = f"{images} gave {change}, but validation, which chooses, shows no gain: use {alone}"
    elif code == "prefer_classic" and over_real:
        gain = change_words(over_real, "points of test accuracy over real only")
        # What is known over real only is of the plain arm of this ratio; the chosen one may show its images otherwise.
        others = f"{kind}ones " if (kind := _kind(synthetic)) else ""
        plain = f"{synthetic.synthetic_per_real} synthetic images per real one"
        sentence = f"{plain} gave {gain}, but {others}{change_words(on_test, against)}: prefer {alone}"
    elif code == "harm":
        sentence = f"{images} do harm: {change}; use {alone}"
    else:
        detectable = on_test["minimum_detectable_effect"]
        sentence = (
            f"{images} have no detectable effect: {change}, where {100 * detectable:.2f} points would have been"
            f" found; use {alone}"
        )
    return sentence


def basis_words(*choices: Choice) -> str:
    """What a verdict rests on: `5 replicates, 95 % intervals`, and how often one of the choices would be another."""
    replicates = len(choices[0].without)
    count = "one replicate" if replicates == 1 else f"{replicates} replicates"
    whole = tuple(choice.arm for choice in choices)
    changed = sum(arms != whole for arms in zip(*(choice.without for choice in choices), strict=True))
    if not changed:
        return f"{count}, {100 * CONFIDENCE:.0f} % intervals"
    cases = f"leaving one out changes the choice in {changed} of {replicates} cases"
    return f"{count}, {100 * CONFIDENCE:.0f} % intervals; {cases}"


def change_words(difference: dict[str, Any], of: str) -> str:
    """`+1.30 points over real only [+0.80, +1.80]`; without the interval where there is none."""
    low, high = difference["low"], difference["high"]
    interval = "" if low is None or high is None else f" [{points(low)}, {points(high)}]"
    return f"{points(difference['mean_difference'])} {of}{interval}"


def _against(classic: DeclaredArm, synthetic: DeclaredArm) -> str:
    """What the chosen arms differ in, as the end of "+0.3 points of test accuracy"."""
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
    augmentation = synthetic.policy
    return "" if augmentation == "none" else f" with {_policy(augmentation)}"


def _images(arm: DeclaredArm) -> str:
    return f"{arm.synthetic_per_real} {_kind(arm)}synthetic images per real one"


def _kind(arm: DeclaredArm) -> str:
    return "fresh " * arm.recipe.fresh + "label-filtered " * arm.recipe.filtered


def _chosen(cells: pd.DataFrame, budget: Budget, arms: Sequence[DeclaredArm]) -> Choice:
    """On validation accuracy; of equal arms the one with fewer synthetic images, then with less augmentation."""
    policies = tuple(POLICIES)

    def rank(arm: DeclaredArm) -> tuple[float, int]:
        return arm.synthetic_per_real, policies.index(arm.policy)

    return choose(cells, budget, sorted(arms, key=rank), _CHOOSES)


def _arm_row(cells: pd.DataFrame, budget: Budget, arm: DeclaredArm) -> dict[str, Any]:
    rows = rows_of_arm(cells, budget, arm)
    row: dict[str, Any] = {
        "budget": budget,
        **_arm_key(arm),
        "classic_augmentation": arm.policy,
        "training_images": int(rows["training_images"].iloc[0]),
        "optimizer_steps": int(rows["optimizer_steps"].iloc[0]),
        "batch_size": int(rows["batch_size"].iloc[0]),
        _CHOOSES: rounded(float(cell_values(cells, budget, arm, _CHOOSES).mean())),
    }
    for metric in METRICS:
        interval = mean_interval(cell_values(cells, budget, arm, metric))
        row["replicates"] = interval.n
        row[metric] = rounded(interval.mean)
        row[f"{metric}_low"], row[f"{metric}_high"] = rounded(interval.low), rounded(interval.high)
    return row


def _comparison_rows(
    cells: pd.DataFrame, budget: Budget, arms: Sequence[DeclaredArm]
) -> list[dict[str, Any]]:
    """Each arm against its baseline, arm by arm in their order, with p-values after Holm over its ratios.

    Arms for rare classes have no ratio: Holm's family is all of them, as in `imbalance`.
    """
    rows = []
    for arm in arms:
        for metric in METRICS:
            if arm.baseline is not None:
                rows.append(_comparison_row(cells, budget, arm, arm.baseline, metric))
    families: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        family_name = "rare classes" if ARMS[row["candidate"]].rare_only else row["candidate"]
        families.setdefault((family_name, row["metric"]), []).append(row)
    for family in families.values():
        for row, adjusted in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = rounded(adjusted)
    return rows


def _comparison_row(
    cells: pd.DataFrame, budget: Budget, candidate: DeclaredArm, baseline: DeclaredArm, metric: str
) -> dict[str, Any]:
    before, after = (cell_values(cells, budget, arm, metric) for arm in (baseline, candidate))
    return {
        "budget": budget,
        "candidate": candidate.name,
        "baseline": baseline.name,
        "synthetic_per_real": candidate.synthetic_per_real,
        "classic_augmentation": candidate.policy,
        "metric": metric,
        "replicates": len(before),
        "differences": [rounded(float(difference)) for difference in after - before],
        **paired_columns(paired_test(baseline=before, candidate=after)),
    }


def paired_arms(
    cells: pd.DataFrame, budget: Budget, candidate: DeclaredArm, baseline: DeclaredArm, metric: str
) -> PairedTest:
    """Two arms of a budget, replicate by replicate, in one column of the cells."""
    before, after = (cell_values(cells, budget, arm, metric) for arm in (baseline, candidate))
    return paired_test(baseline=before, candidate=after)


def _worth_rows(cells: pd.DataFrame, budget: Budget, arms: Sequence[DeclaredArm]) -> list[dict[str, Any]]:
    """How many extra real images a synthetic one is worth, arm by arm and ratio by ratio.

    The gain of extra real images over the same baseline, as a line through its means from 0 images on, says at
    how many real images it is as large as the gain of the synthetic ones. Only a gain whose interval lies
    above 0 has a worth. An end of the interval, or the gain itself, beyond the most extra real images that
    were tried has none: it is larger than that.
    """
    rows = []
    names = dict.fromkeys(arm.name for arm in arms if arm.recipe.upper_bound and not arm.recipe.rare_only)
    for extra_name in names:
        extras = [arm for arm in arms if arm.name == extra_name]
        gains = [_gain(cells, budget, arm)["mean_difference"] for arm in extras]
        real_per_real = [0.0, *(float(arm.synthetic_per_real) for arm in extras)]
        # More real images are never worth less: a dip of the means is noise.
        line = np.maximum.accumulate([0.0, *gains])
        for arm in arms:
            if arm.name != ARMS[extra_name].upper_bound:
                continue
            gain = _gain(cells, budget, arm)
            told = sign_of(gain) == "above"
            rows.append(
                {
                    "budget": budget,
                    **_arm_key(arm),
                    "upper_bound": extra_name,
                    "most_extra_real_per_real": real_per_real[-1],
                    **{
                        name: _worth(gain[key], line, real_per_real, arm) if told else None
                        for name, key in (
                            ("real_images_per_synthetic", "mean_difference"),
                            ("low", "low"),
                            ("high", "high"),
                        )
                    },
                }
            )
    return rows


def _gain(cells: pd.DataFrame, budget: Budget, arm: DeclaredArm) -> dict[str, Any]:
    assert arm.baseline is not None  # every arm with other images has one
    return paired_columns(paired_arms(cells, budget, arm, arm.baseline, "test_accuracy"))


def _worth(gain: float, line: Any, real_per_real: Sequence[float], arm: DeclaredArm) -> float | None:
    """Where the rising line reaches the gain, per synthetic image; None beyond its end."""
    if gain > line[-1]:
        return None
    reached = int(np.searchsorted(line, gain))  # the first point that is as high
    if reached == 0:
        return 0.0
    below, above = line[reached - 1], line[reached]
    share = (gain - below) / (above - below)
    at = real_per_real[reached - 1] + share * (real_per_real[reached] - real_per_real[reached - 1])
    return rounded(float(at / arm.synthetic_per_real))


def paired_columns(test: PairedTest) -> dict[str, Any]:
    """What a paired comparison says, as the columns of `comparison.json`."""
    return dict(
        zip(
            PAIRED_COLUMNS,
            (
                rounded(test.difference.mean),
                rounded(test.difference.low),
                rounded(test.difference.high),
                rounded(test.standard_deviation),
                rounded(test.p),
                rounded(test.p_sign_flip),
                rounded(test.improvement.mean),
                rounded(test.improvement.low),
                rounded(test.improvement.high),
                rounded(test.minimum_detectable_effect),
                test.replicates_to_settle,
            ),
            strict=True,
        )
    )


def rounded(value: float | None) -> float | None:
    """A value of the file: so many decimals that it can be compared, and no noise of a last bit."""
    return None if value is None else round(value, _DECIMALS) + 0.0  # + 0.0: no −0.0 in the file


def _arm_key(arm: DeclaredArm) -> dict[str, Any]:
    return {"arm": arm.name, "synthetic_per_real": arm.synthetic_per_real}
