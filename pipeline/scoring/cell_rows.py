"""The rows of the tidy tables: what one classifier scored. They count replicates from 1; the facts of a cell from 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.images import LabeledImages, stratified_indices
from pipeline.runtime.seeds import derive_seed
from pipeline.scoring.scores import scores_from_predictions
from pipeline.study.metric import Metric, few_labels_column, measured
from pipeline.study.subsets import Budget, replicate_number

Predictions = npt.NDArray[np.int64]
_KEY = ("budget", "arm", "synthetic_per_real", "classic_augmentation", "replicate")


def numbered(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a cell as a table has them: with the replicate's number, from 1, in the place of its index."""
    return {**facts, "replicate": replicate_number(facts["replicate"])}


def few_of_validation(validation: LabeledImages, budget: Budget, *, seed: int) -> npt.NDArray[np.int64]:
    """As many validation images as the budget has training images: what a choice with so few labels goes by.

    Returns:
        (n,) int64 positions, stratified and ascending, the same for all replicates; all of them where the split has no
        more than the budget, or fewer are asked for than there are classes.
    """
    if budget == "all" or not validation.num_classes <= budget < len(validation):
        return np.arange(len(validation), dtype=np.int64)
    rng = np.random.default_rng(derive_seed(seed, "few validation images", budget))
    return stratified_indices(validation.labels, budget, validation.num_classes, rng)


def cell_row(
    facts: Mapping[str, Any],
    *,
    metric: Metric,
    subset_overlap: float,
    few: npt.NDArray[np.int64],
    validation: LabeledImages,
    validation_predictions: Predictions,
    test: LabeledImages,
    test_predictions: Predictions,
) -> dict[str, Any]:
    """One row of `cells.csv`: the cell's facts and its scores on both splits, as fractions in 0..1.

    Args:
        facts: of the cell.
        metric: by which the study chooses: it has columns of its own beside those of accuracy and macro-F1.
        subset_overlap: 0..1, the mean share of its replicate's real images that another replicate has too.
        few: positions in the validation split of as many images as the budget has, or of all (`few_of_validation`).
        validation, test: the splits.
        validation_predictions, test_predictions: (N,) int64, what the classifier says of each.
    """
    on_few = scores_from_predictions(
        labels=validation.labels[few],
        predictions=validation_predictions[few],
        num_classes=validation.num_classes,
    )
    few_accuracy, few_metric = few_labels_column("accuracy"), few_labels_column(metric)
    row = numbered(facts) | {
        "real_subset_overlap": subset_overlap,
        "validation_images": len(validation),
        few_accuracy: on_few.accuracy,
        few_metric: getattr(on_few, metric),
    }
    for split, images, predictions in (
        ("validation", validation, validation_predictions),
        ("test", test, test_predictions),
    ):
        scores = scores_from_predictions(
            labels=images.labels, predictions=predictions, num_classes=images.num_classes
        )
        row |= {f"{split}_accuracy": scores.accuracy, f"{split}_macro_f1": scores.macro_f1}
        row |= {f"{split}_{name}": getattr(scores, name) for name in measured(metric)}
    per_class = zip(test.class_names, scores.f1, strict=True)
    return row | {f"test_f1_{name}": float(f1) for name, f1 in per_class}


def confusion_rows(
    facts: Mapping[str, Any], *, test: LabeledImages, test_predictions: Predictions
) -> list[dict[str, Any]]:
    """The rows of `confusion.csv` of one cell: a count per (actual, predicted) class on the test split."""
    row = numbered(facts)
    key = {name: row[name] for name in _KEY}
    confusion = scores_from_predictions(
        labels=test.labels, predictions=test_predictions, num_classes=test.num_classes
    ).confusion
    return [
        {**key, "actual": actual, "predicted": predicted, "count": int(confusion[i, j])}
        for i, actual in enumerate(test.class_names)
        for j, predicted in enumerate(test.class_names)
    ]
