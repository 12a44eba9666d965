"""The rows of `pool.csv`: how many pseudo-labels of a pool are kept, and how many of these are right.

The only place that looks at the true labels of a pool, besides the upper bound: whatever trains has not seen them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.images import LabeledImages
from pipeline.study.pool import PoolSize, labelled_pool, labelled_replicates
from pipeline.study.subsets import Budget, Imbalance, real_subset, replicate_number

_COLUMNS = (
    "budget",
    "replicate",
    "pool_images",
    "least_probability",
    "kept",
    "coverage",
    "accuracy",
    "kept_accuracy",
    "kept_least_class",
    "kept_least_class_accuracy",
)


def pool_rows(
    train: LabeledImages,
    pseudo_labels: Path,
    *,
    budget: Budget,
    size: PoolSize,
    seed: int,
    imbalance: Imbalance,
) -> list[dict[str, Any]]:
    """A row for each replicate of a budget whose pool was labelled; none without pseudo-labels.

    Args:
        train: the train split, with the true labels.
        pseudo_labels: what `save_pseudo_labels` wrote.
        budget, size, seed, imbalance: of the study, as in `real_subset` and `pool_indices`.

    Returns:
        Per replicate (by number): images, labels kept, shares in 0..1: of all that are kept (`coverage`), of all that
        are right, of the kept ones that are right, and of these in the class where fewest are. A class is the true
        one. NaN where there is none.
    """
    rows = []
    for replicate in labelled_replicates(pseudo_labels):
        real = real_subset(train, budget=budget, replicate=replicate, seed=seed, imbalance=imbalance)
        indices, given = labelled_pool(train, real, size=size, seed=seed, pseudo_labels=pseudo_labels)
        truth, kept = train.labels[indices], given.kept
        right = given.labels == truth
        of_class = {
            name: right[kept & (truth == label)].mean()
            for label, name in enumerate(train.class_names)
            if (kept & (truth == label)).any()
        }
        worst = min(of_class, key=lambda name: of_class[name], default="")
        rows.append(
            {
                "budget": budget,
                "replicate": replicate_number(replicate),
                "pool_images": len(indices),
                "least_probability": given.least_probability,
                "kept": int(kept.sum()),
                "coverage": kept.mean(),
                "accuracy": right.mean(),
                "kept_accuracy": right[kept].mean() if kept.any() else np.nan,
                "kept_least_class": worst,
                "kept_least_class_accuracy": of_class.get(worst, np.nan),
            }
        )
    return rows


def score_pools(
    train: LabeledImages,
    labels: Path,
    *,
    budgets: Sequence[Budget],
    size: PoolSize,
    seed: int,
    imbalance: Imbalance,
) -> pd.DataFrame:
    """`pool.csv` of a study: the rows of every budget, as `pool_rows` says; six decimals.

    Args:
        train: the train split, with the true labels.
        labels: folder of the pseudo-labels, `<budget>.npz` each.
        budgets, size, seed, imbalance: of the study.
    """
    rows = []
    for budget in budgets:
        file = labels / f"{budget}.npz"
        rows += pool_rows(train, file, budget=budget, size=size, seed=seed, imbalance=imbalance)
    return pool_table(rows)


def pool_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a table with its columns, also where there are none; six decimals."""
    return pd.DataFrame(rows, columns=list(_COLUMNS)).round(6)
