"""The few numbers of a study that a person reads first, and that `dvc metrics diff` and `dvc exp show` compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.comparison.headline import Headline, headlines


def summarize(comparison: Mapping[str, Any], generative: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """At most seven numbers of each budget; what was not measured has no key.

    Args:
        comparison: as `compare_cells` gives it.
        generative: of each budget (as text), its `metrics/synthetic/<budget>.json`, of the replicates that count.

    Returns:
        By budget, of its headline (`headline.py`). `without` and `with`: mean on test (0..1) of the best arm without
        and with synthetic images, both chosen on validation. Where that is not accuracy, the metric's name follows:
        `without_macro_f1`. `gain`, `low`, `high`: the judged difference and its interval, where each replicate has the
        choice of those before it, so that it need not be `with` − `without`. `ratio`: synthetic images per real one
        that are recommended; where classes are rare, `rare_recall_gain` in its place: the judged difference in the mean
        recall of the rare classes. `fid`: of the generators, on average.
    """
    return {
        str(headline.budget): _budget(headline, generative[str(headline.budget)])
        for headline in headlines(comparison)
    }


def _budget(headline: Headline, generative: Mapping[str, Any]) -> dict[str, float]:
    judged = headline.judged
    by = "" if headline.metric == "accuracy" else f"_{headline.metric}"
    values: dict[str, Any] = {
        f"{name}{by}": headline.row(arm)[f"test_{headline.metric}"]
        for name, arm in (("without", headline.without), ("with", headline.best))
        if arm is not None
    }
    values |= {"gain": judged.get("mean_difference"), "low": judged.get("low"), "high": judged.get("high")}
    if headline.rare:
        values["rare_recall_gain"] = judged["rare_recall"]["mean_difference"]
    elif judged.get("recommended") is not None:
        values["ratio"] = judged["recommended"]["synthetic_per_real"]
    if generative["replicates"]:
        values["fid"] = np.mean([row["fid"] for row in generative["replicates"].values()])
    return {name: round(float(value), 4) for name, value in values.items() if value is not None}
