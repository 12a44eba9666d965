"""The rows of `comparison.json`: an arm with its intervals, and an arm against its baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.comparison.cells import cell_values, subset_overlap
from pipeline.statistics import Detectable, PairedTest, holm, paired_test, share_interval
from pipeline.study.arms import ARMS
from pipeline.study.grid import DeclaredArm
from pipeline.study.subsets import Budget

DECIMALS = 6
# The questions of a study, each with its family of comparisons.
MORE_IMAGES, RARE_CLASSES = "more images or other augmentation", "the gap of rare classes"
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
    "minimum_detectable_effect_low",
    "minimum_detectable_effect_high",
    "replicates_to_settle",
)


def arm_key(arm: DeclaredArm) -> dict[str, Any]:
    """The columns that name an arm."""
    return {"arm": arm.name, "synthetic_per_real": arm.synthetic_per_real}


def metric_columns(
    cells: pd.DataFrame, budget: Budget, arm: DeclaredArm, metrics: Sequence[str]
) -> dict[str, Any]:
    """Of each metric of an arm its mean over replicates, and the ends of its interval, which lie in 0..1 too."""
    columns: dict[str, Any] = {}
    overlap = subset_overlap(cells, budget)
    for metric in metrics:
        interval = share_interval(cell_values(cells, budget, arm, metric), overlap=overlap)
        columns[metric] = rounded(interval.mean)
        columns[f"{metric}_low"], columns[f"{metric}_high"] = rounded(interval.low), rounded(interval.high)
    return columns


def comparison_rows(
    cells: pd.DataFrame, budget: Budget, arms: Sequence[DeclaredArm], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Each arm against its baseline in each metric, arm by arm in their order; `with_holm` completes them."""
    overlap = subset_overlap(cells, budget)
    return [
        _comparison_row(cells, budget, arm, arm.baseline, metric, overlap)
        for arm in arms
        for metric in metrics
        if arm.baseline is not None
    ]


def with_holm(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a table with their p-values after Holm.

    A family is all that a reader sees of one question in one metric: every arm, ratio and budget. What fills the gap of
    rare classes is a question of its own.
    """
    adjusted: dict[int, float | None] = {}
    for places in _families(rows).values():
        adjusted |= zip(places, holm([rows[place]["p"] for place in places]), strict=True)
    return [{**row, "p_holm": rounded(adjusted[place])} for place, row in enumerate(rows)]


def holm_families(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The families of Holm's correction, as `comparison.json` states them: question, metric, how many comparisons."""
    return [
        {"question": question, "metric": metric, "comparisons": len(places)}
        for (question, metric), places in _families(rows).items()
    ]


def _families(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[int]]:
    """The positions of the rows of each family."""
    families: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        question = RARE_CLASSES if ARMS[row["candidate"]].rare_only else MORE_IMAGES
        families.setdefault((question, row["metric"]), []).append(place)
    return families


def _comparison_row(
    cells: pd.DataFrame,
    budget: Budget,
    candidate: DeclaredArm,
    baseline: DeclaredArm,
    metric: str,
    overlap: float,
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
        **paired_columns(paired_test(baseline=before, candidate=after, overlap=overlap)),
    }


def paired_arms(
    cells: pd.DataFrame, budget: Budget, candidate: DeclaredArm, baseline: DeclaredArm, metric: str
) -> PairedTest:
    """Two arms of a budget, replicate by replicate, in one column of the cells."""
    before, after = (cell_values(cells, budget, arm, metric) for arm in (baseline, candidate))
    return paired_test(baseline=before, candidate=after, overlap=subset_overlap(cells, budget))


def paired_columns(test: PairedTest) -> dict[str, Any]:
    """What a paired comparison says, as the columns of `comparison.json`."""
    return {
        "mean_difference": rounded(test.difference.mean),
        "low": rounded(test.difference.low),
        "high": rounded(test.difference.high),
        "standard_deviation": rounded(test.standard_deviation),
        "p": rounded(test.p),
        "p_sign_flip": rounded(test.p_sign_flip),
        "probability_of_improvement": rounded(test.improvement.mean),
        "probability_of_improvement_low": rounded(test.improvement.low),
        "probability_of_improvement_high": rounded(test.improvement.high),
        **detectable_columns(test.detectable),
        "replicates_to_settle": test.replicates_to_settle,
    }


def detectable_columns(detectable: Detectable | None) -> dict[str, Any]:
    """A minimum detectable effect and its interval, as columns."""
    return {
        "minimum_detectable_effect": rounded(detectable.effect) if detectable else None,
        "minimum_detectable_effect_low": rounded(detectable.low) if detectable else None,
        "minimum_detectable_effect_high": rounded(detectable.high) if detectable else None,
    }


def rounded(value: float | None) -> float | None:
    """A value of the file: so many decimals that it can be compared, and no noise of a last bit."""
    return None if value is None else round(value, DECIMALS) + 0.0  # + 0.0: no −0.0 in the file
