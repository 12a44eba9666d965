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
        subset_overlap=0.25,
        few=np.array([0, 10, 20, 29]),
        validation=validation,
        validation_predictions=predictions,
        test=test,
        test_predictions=test.labels,
    )
    assert row["validation_few_accuracy"] == 0.75 and row["validation_accuracy"] == 25 / 30
    assert (row["validation_images"], row["real_subset_overlap"], row["replicate"]) == (30, 0.25, 1)
