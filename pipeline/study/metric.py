"""The metric by which a study chooses and judges: `study.metric`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1"]

WORDS: Mapping[Metric, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
}


def measured(metric: Metric) -> tuple[Metric, ...]:
    """The metrics of a study's cells, on validation and on test: the one that decides first."""
    always: tuple[Metric, ...] = ("accuracy", "macro_f1")
    return (metric, *(other for other in always if other != metric))


def columns_on_test(metric: Metric) -> tuple[str, ...]:
    """Their columns on test, in `cells.csv` and `comparison.json`."""
    return tuple(f"test_{name}" for name in measured(metric))


def few_labels_column(metric: Metric) -> str:
    """The metric on as many validation images as the budget has training images."""
    return f"validation_few_{metric}"
