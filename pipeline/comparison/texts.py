"""Differences, intervals and p-values as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def points(fraction: float) -> str:
    """A difference of fractions in signed percentage points: 0.0005 is `+0.05`."""
    return f"{round(100 * fraction, 2) + 0.0:+.2f}".replace("-", "−")


def detectable_points(effect: float) -> str:
    """A detectable effect in points, `0.24`; no accuracy changes by more than 100, though a poorly known spread may."""
    return f"{100 * effect:.2f}" if effect < 1 else "over 100"


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


def change_words(difference: Mapping[str, Any], unit: str) -> str:
    """A difference with its unit: `+1.30 points over real only [+0.80, +1.80]`; no interval where there is none."""
    low, high = difference["low"], difference["high"]
    interval = "" if low is None or high is None else f" [{points(low)}, {points(high)}]"
    return f"{points(difference['mean_difference'])} {unit}{interval}"
