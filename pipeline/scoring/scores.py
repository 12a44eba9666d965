"""Scores of a classifier from labels and predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError


@dataclass(frozen=True, eq=False)
class ClassificationScores:
    """What a classifier got right.

    Attributes:
        accuracy: share of correct predictions, 0..1.
        balanced_accuracy: unweighted mean of the classes' recalls, 0..1.
        macro_f1: unweighted mean of the classes' F1, 0..1.
        f1: (C,) float64, the F1 of each class.
        confusion: (C, C) int64 counts; rows are the actual classes, columns the predicted ones.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    f1: npt.NDArray[np.float64]
    confusion: npt.NDArray[np.int64]


def scores_from_predictions(
    *, labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64], num_classes: int
) -> ClassificationScores:
    """Accuracy, balanced accuracy, F1 = 2TP/(2TP+FP+FN) per class, their mean, and the confusion matrix.

    Balanced accuracy is the mean recall of the classes that occur (scikit-learn's `balanced_accuracy_score`).

    A class that neither occurs nor is predicted (0/0) has F1 0 and counts in the mean: scikit-learn's
    `zero_division=0` with all classes given. (Importing sklearn.metrics takes two seconds, this takes
    none.)

    Args:
        labels: (N,) int64, the actual classes, 0..num_classes−1.
        predictions: (N,) int64, the predicted classes, 0..num_classes−1.
        num_classes: C.

    Raises:
        SynthGainError: if there is no image, the lengths differ, or a class is out of range.
    """
    if labels.shape != predictions.shape or labels.ndim != 1 or not len(labels):
        raise SynthGainError(
            f"classification: found {labels.shape} labels and {predictions.shape} predictions;"
            " one of each per image is needed"
        )
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.min() < 0 or values.max() >= num_classes:
            raise SynthGainError(
                f"classification: found {name} {values.min()}..{values.max()}; allowed: 0..{num_classes - 1}"
            )
    flat = np.bincount(labels * num_classes + predictions, minlength=num_classes * num_classes)
    confusion = flat.reshape(num_classes, num_classes).astype(np.int64)
    correct = np.diag(confusion)
    # 2TP + FP + FN: everything predicted as the class and everything of the class.
    involved = confusion.sum(axis=0) + confusion.sum(axis=1)
    f1 = 2 * correct / np.maximum(involved, 1)
    actual = confusion.sum(axis=1)
    recall = correct[actual > 0] / actual[actual > 0]
    accuracy = float(correct.sum() / len(labels))
    return ClassificationScores(accuracy, float(recall.mean()), float(f1.mean()), f1, confusion)
