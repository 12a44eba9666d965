"""The few numbers of a study that a person reads first, and that `dvc metrics diff` and `dvc exp show` compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def summarize(comparison: Mapping[str, Any], generative: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """At most seven numbers of each budget; what was not measured has no key.

    Args:
        comparison: as `compare_cells` gives it.
        generative: of each budget (as text), its `metrics/synthetic/<budget>.json`, of the replicates that count.

    Returns:
        By budget: `without` and `with`: mean test accuracy (0..1) of the best arm without and with synthetic images,
        both chosen on validation; `gain`, `low`, `high`: the judged difference and its interval, where each replicate
        has the choice of those before it, so that it need not be `with` − `without`; `ratio`: synthetic images per real
        one that are recommended; `fid`: of the generators, on average.
    """
    accuracy = {
        (row["budget"], row["arm"], row["synthetic_per_real"]): row["test_accuracy"]
        for row in comparison["arms"]
    }
    return {
        str(row["budget"]): _budget(row, accuracy, generative[str(row["budget"])])
        for row in comparison["budgets"]
    }


def _budget(
    judged: Mapping[str, Any], accuracy: Mapping[tuple[Any, str, float], float], generative: Mapping[str, Any]
) -> dict[str, float]:
    chosen = {"without": judged.get("best_classic"), "with": judged.get("best_synthetic")}
    values: dict[str, Any] = {
        name: accuracy[judged["budget"], arm["arm"], arm["synthetic_per_real"]]
        for name, arm in chosen.items()
        if arm is not None
    }
    values |= {"gain": judged.get("mean_difference"), "low": judged.get("low"), "high": judged.get("high")}
    if judged.get("recommended") is not None:
        values["ratio"] = judged["recommended"]["synthetic_per_real"]
    if generative["replicates"]:
        values["fid"] = np.mean([row["fid"] for row in generative["replicates"].values()])
    return {name: round(float(value), 4) for name, value in values.items() if value is not None}
