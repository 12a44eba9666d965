"""Test accuracy with its interval as lines of text: what a terminal shows at the end of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.study.arms import ARMS

_MARKS = 28  # columns from one end of the scale to the other
_NAME = 43
_FEWEST_POINTS = 0.2  # of the scale, in percent: equal accuracies still have one


def accuracy_chart(comparison: Mapping[str, Any]) -> list[str]:
    """Lines of at most 80 columns: real only, the best arm without synthetic images, the best with, at each ratio.

    `├──●──┤` is the interval and the mean of the replicates; one replicate has no interval. A star recommends.
    """
    rows = [row for budget in comparison["budgets"] for row in _rows(comparison["arms"], budget)]
    low, high = _scale(rows)
    recommended = {
        (budget["budget"], budget["recommended"]["arm"], budget["recommended"]["synthetic_per_real"])
        for budget in comparison["budgets"]
    }
    lines = [f"{'test accuracy, %':<{_NAME + 7}}{f'{low:g}':<{_MARKS // 2}}{f'{high:g}':>{_MARKS // 2 + 1}}"]
    budget = None
    for row in rows:
        if row["budget"] != budget:
            budget = row["budget"]
            lines.append(f"{budget} real images")
        star = "*" if (budget, row["arm"], row["synthetic_per_real"]) in recommended else " "
        ratio = f" ×{row['synthetic_per_real']:g}" if row["synthetic_per_real"] else ""
        words = ARMS[row["arm"]].short_words
        name = f"{star} {words[: _NAME - 3 - len(ratio)]}{ratio}"
        lines.append(f"{name:<{_NAME}}{100 * row['test_accuracy']:6.2f} {_marks(row, low, high)}")
    return lines


def _rows(arms: Sequence[Mapping[str, Any]], judged: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those of a budget that answer the question, in the order of the table."""
    names = {
        "real",
        judged["best_classic"]["arm"],
        (judged["best_synthetic"] or judged["best_classic"])["arm"],
    }
    return [row for row in arms if row["budget"] == judged["budget"] and row["arm"] in names]


def _ends(row: Mapping[str, Any]) -> tuple[float, float]:
    """The interval in percent; the mean twice where there is none."""
    low, high = (row[f"test_accuracy_{end}"] for end in ("low", "high"))
    mean = row["test_accuracy"]
    return 100 * (mean if low is None else low), 100 * (mean if high is None else high)


def _scale(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Round ends in percent that hold all intervals."""
    low, high = min(_ends(row)[0] for row in rows), max(_ends(row)[1] for row in rows)
    step = 10 ** math.floor(math.log10(max(high - low, _FEWEST_POINTS)))
    return round(math.floor(low / step) * step, 6), round(math.ceil(high / step) * step, 6)


def _marks(row: Mapping[str, Any], low: float, high: float) -> str:
    def column(value: float) -> int:
        return round((value - low) / (high - low) * _MARKS) if high > low else 0

    left, right = map(column, _ends(row))
    middle = column(100 * row["test_accuracy"])
    line = [" "] * left + ["─"] * (right - left + 1)
    line[left], line[right] = "├", "┤"
    line[middle] = "●"
    return "".join(line)
