"""Classification scores: scikit-learn gives the same, and the rule for empty classes is kept."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SynthGainError
from pipeline.scoring.scores import scores_from_predictions


@st.composite
def predicted(draw):
    num_classes = draw(st.integers(2, 6))
    pairs = draw(st.lists(st.tuples(*[st.integers(0, num_classes - 1)] * 2), min_size=1, max_size=60))
    labels, predictions = np.array(pairs, dtype=np.int64).T
    return labels, predictions, num_classes


@given(predicted())
def test_agrees_with_scikit_learn(drawn):
    from sklearn import metrics

    labels, predictions, num_classes = drawn
    scores = scores_from_predictions(labels=labels, predictions=predictions, num_classes=num_classes)
    classes = list(range(num_classes))
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(labels, predictions), abs=1e-12)
    with warnings.catch_warnings():  # a class that is predicted and does not occur
        warnings.simplefilter("ignore")
        balanced = metrics.balanced_accuracy_score(labels, predictions)
    assert scores.balanced_accuracy == pytest.approx(balanced, abs=1e-12)
    f1 = metrics.f1_score(labels, predictions, labels=classes, average=None, zero_division=0)
    np.testing.assert_allclose(scores.f1, f1, atol=1e-12)
    macro_f1 = metrics.f1_score(labels, predictions, labels=classes, average="macro", zero_division=0)
    assert scores.macro_f1 == pytest.approx(macro_f1, abs=1e-12)
    expected = metrics.confusion_matrix(labels, predictions, labels=classes)
    np.testing.assert_array_equal(scores.confusion, expected)
    assert scores.confusion.dtype == np.int64


def test_rows_are_actual_columns_predicted():
    scores = scores_from_predictions(
        labels=np.array([0, 0, 1, 2]), predictions=np.array([0, 1, 1, 0]), num_classes=3
    )
    assert scores.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert scores.f1.tolist() == [0.5, pytest.approx(2 / 3), 0.0]


def test_a_class_without_images_and_predictions_counts_as_zero():
    labels = np.zeros(5, dtype=np.int64)
    scores = scores_from_predictions(labels=labels, predictions=labels, num_classes=2)
    assert (scores.accuracy, scores.f1.tolist(), scores.macro_f1) == (1.0, [1.0, 0.0], 0.5)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([], [], "one of each per image"),
        ([0, 1], [0], "one of each per image"),
        ([0, 3], [0, 1], r"found labels 0\.\.3; allowed: 0\.\.2"),
        ([0, 1], [-1, 1], r"found predictions -1\.\.1; allowed: 0\.\.2"),
    ],
)
def test_refuses_what_cannot_be_scored(labels, predictions, message):
    with pytest.raises(SynthGainError, match=message):
        scores_from_predictions(
            labels=np.array(labels, dtype=np.int64),
            predictions=np.array(predictions, dtype=np.int64),
            num_classes=3,
        )
