"""The rows of `comparison.json`: an arm with its intervals, and an arm against its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipeline.comparison.cells import cell_values
from pipeline.statistics import PairedTest, holm, mean_interval, paired_test
from pipeline.study.arms import ARMS
from pipeline.study.grid import DeclaredArm
from pipeline.study.subsets import Budget

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


def arm_key(arm: DeclaredArm) -> dict[str, Any]:
    """The columns that name an arm."""
    return {"arm": arm.name, "synthetic_per_real": arm.synthetic_per_real}


def metric_columns(
    cells: pd.DataFrame, budget: Budget, arm: DeclaredArm, metrics: Sequence[str]
) -> dict[str, Any]:
    """Of each metric of an arm its mean over replicates, and the ends of its interval."""
    columns: dict[str, Any] = {}
    for metric in metrics:
        interval = mean_interval(cell_values(cells, budget, arm, metric))
        columns[metric] = rounded(interval.mean)
        columns[f"{metric}_low"], columns[f"{metric}_high"] = rounded(interval.low), rounded(interval.high)
    return columns


def comparison_rows(
    cells: pd.DataFrame, budget: Budget, arms: Sequence[DeclaredArm], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Each arm against its baseline in each metric, arm by arm in their order.

    p-values after Holm are over the ratios of an arm, metric by metric. Arms for rare classes have no ratio: Holm's
    family is all of them.
    """
    rows = [
        _comparison_row(cells, budget, arm, arm.baseline, metric)
        for arm in arms
        for metric in metrics
        if arm.baseline is not None
    ]
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
