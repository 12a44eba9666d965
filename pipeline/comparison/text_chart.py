"""The metric of a study on test with its interval as lines of text: what a terminal shows at the end of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.comparison.headline import Headline, arm_of, best_without_pool, headlines
from pipeline.study.arms import ARMS
from pipeline.study.metric import WORDS

_MARKS = 28  # columns from one end of the scale to the other
_NAME = 43
_FEWEST_POINTS = 0.2  # of the scale, in percent: equal values still have one


def metric_chart(comparison: Mapping[str, Any]) -> list[str]:
    """Lines of at most 80 columns: real only, the best arm without synthetic images, the best with, at each ratio.

    Where the best without them learns from the pool, the best that does not is there too.
    They are of the headline: by the metric of the verdict on rare classes, if there is one, else by `study.metric`.
    `├──●──┤` is the interval and the mean of the replicates; one replicate has no interval. A star recommends.
    """
    of_budgets = headlines(comparison)
    metric = of_budgets[0].metric
    intervals = {
        headline.budget: [(row, _interval(row, f"test_{metric}")) for row in _rows(headline)]
        for headline in of_budgets
    }
    low, high = _scale([interval for rows in intervals.values() for _, interval in rows])
    title = f"test {WORDS[metric]}, %"
    lines = [f"{title:<{_NAME + 7}}{f'{low:g}':<{_MARKS // 2}}{f'{high:g}':>{_MARKS // 2 + 1}}"]
    for headline in of_budgets:
        lines.append(f"{headline.budget} real images")
        for row, interval in intervals[headline.budget]:
            star = "*" if arm_of(row) == arm_of(headline.recommended) else " "
            ratio = f" ×{row['synthetic_per_real']:g}" if row["synthetic_per_real"] else ""
            words = ARMS[row["arm"]].short_words
            name = f"{star} {words[: _NAME - 3 - len(ratio)]}{ratio}"
            lines.append(f"{name:<{_NAME}}{interval[1]:6.2f} {_marks(interval, low, high)}")
    return lines


def _rows(headline: Headline) -> list[Mapping[str, Any]]:
    """The arms that answer the question, in the order of the table."""
    names = {"real", headline.without["arm"], (headline.best or headline.without)["arm"]}
    if ARMS[headline.without["arm"]].pool:
        names.add(best_without_pool(headline.arms, headline.metric)["arm"])
    return [row for row in headline.arms if row["arm"] in names]


def _interval(row: Mapping[str, Any], column: str) -> tuple[float, float, float]:
    """Low end, mean and high end in percent; the mean three times where there is no interval."""
    low, mean, high = row[f"{column}_low"], row[column], row[f"{column}_high"]
    return 100 * (mean if low is None else low), 100 * mean, 100 * (mean if high is None else high)


def _scale(intervals: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Round ends in percent that hold all intervals."""
    low, high = min(interval[0] for interval in intervals), max(interval[2] for interval in intervals)
    step = 10 ** math.floor(math.log10(max(high - low, _FEWEST_POINTS)))
    return round(math.floor(low / step) * step, 6), round(math.ceil(high / step) * step, 6)


def _marks(interval: tuple[float, float, float], low: float, high: float) -> str:
    def column(value: float) -> int:
        return round((value - low) / (high - low) * _MARKS) if high > low else 0

    left, middle, right = map(column, interval)
    line = [" "] * left + ["─"] * (right - left + 1)
    line[left], line[right] = "├", "┤"
    line[middle] = "●"
    return "".join(line)
