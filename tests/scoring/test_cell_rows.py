"""A row of `cells.csv`: also what so few validation images say as the budget has training images."""

import numpy as np
import pytest

from pipeline.images import LabeledImages
from pipeline.scoring.cell_rows import cell_row, few_of_validation


def split(per_class):
    labels = np.repeat(np.arange(3), per_class)
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return LabeledImages(images, labels.astype(np.int64), ("a", "b", "c"))


def test_the_few_are_stratified_fixed_and_drawn_by_the_seed():
    validation = split(40)
    few = few_of_validation(validation, 30, seed=1)
    assert np.bincount(validation.labels[few]).tolist() == [10, 10, 10]
    assert (few == few_of_validation(validation, 30, seed=1)).all()
    assert (few != few_of_validation(validation, 30, seed=2)).any()


@pytest.mark.parametrize("budget", ["all", 120, 500, 2])
def test_where_there_are_no_more_all_choose(budget):
    assert few_of_validation(split(40), budget, seed=1).tolist() == list(range(120))


def test_the_row_has_the_accuracy_on_the_few_beside_that_on_all():
    validation, test = split(10), split(2)
    predictions = validation.labels.copy()
    predictions[:5] = 1  # wrong
    facts = {"budget": 6, "arm": "real", "replicate": 0}
    row = cell_row(
        facts,
        metric="accuracy",
        subset_overlap=0.25,
        few=np.array([0, 10, 20, 29]),
        validation=validation,
        validation_predictions=predictions,
        test=test,
        test_predictions=test.labels,
    )
    assert row["validation_few_accuracy"] == 0.75 and row["validation_accuracy"] == 25 / 30
    assert (row["validation_images"], row["real_subset_overlap"], row["replicate"]) == (30, 0.25, 1)
    assert not [
        name for name in row if "balanced" in name
    ]  # the table of a study by accuracy stays as it was


def test_a_study_by_another_metric_has_its_columns_too():
    """A classifier that always says the largest class: 96 % right, and a third of the classes."""
    labels = np.repeat(np.arange(3), [96, 2, 2]).astype(np.int64)
    images = LabeledImages(np.zeros((100, 1, 1, 1), dtype=np.uint8), labels, ("a", "b", "c"))
    always_a = np.zeros(100, dtype=np.int64)

    def row(metric):
        return cell_row(
            {"budget": 6, "arm": "real", "replicate": 0},
            metric=metric,
            subset_overlap=0.0,
            few=np.array([0, 1, 2, 96, 98]),
            validation=images,
            validation_predictions=always_a,
            test=images,
            test_predictions=always_a,
        )

    found = row("balanced_accuracy")
    assert found["test_accuracy"] == found["validation_accuracy"] == 0.96
    assert found["test_balanced_accuracy"] == found["validation_balanced_accuracy"] == pytest.approx(1 / 3)
    assert (found["validation_few_accuracy"], found["validation_few_balanced_accuracy"]) == (0.6, 1 / 3)
    assert found["test_macro_f1"] == pytest.approx(2 * 96 / (96 + 100) / 3)
    by_f1, plain = row("macro_f1"), row("accuracy")
    assert set(by_f1) - set(plain) == {"validation_few_macro_f1"}
    assert [name for name in found if name in plain] == list(plain)
