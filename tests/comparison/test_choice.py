"""A choice is not judged by the replicates that made it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.comparison.choice import NOTHING, best_row, choose, judged_differences, rows_before
from pipeline.study.grid import DeclaredArm

RATIOS = (0.5, 1.0, 2.0)
ARMS = [DeclaredArm("synthetic", ratio) for ratio in RATIOS]
REAL = DeclaredArm("real", 0)


def table(values, real=0.0):
    """The cells of arms (arms, replicates), and of the real images alone."""
    return pd.DataFrame(
        [
            {
                "budget": "60",
                "arm": arm.name,
                "synthetic_per_real": float(arm.synthetic_per_real),
                "replicate": replicate,
                "validation_accuracy": value,
                "test_accuracy": value,
            }
            for arm, row in zip([*ARMS, REAL], [*values, [real] * len(values[0])], strict=True)
            for replicate, value in enumerate(row)
        ]
    )


def judged(cells):
    """The differences of the chosen arm to the real images."""
    choice = choose(cells, 60, ARMS, "validation_accuracy")
    return judged_differences(cells, 60, choice.before, [REAL] * len(choice.before), "test_accuracy")


accuracies = st.integers(0, 100).map(lambda value: value / 100)
studies = st.integers(2, 6).flatmap(
    lambda n: st.lists(st.lists(accuracies, min_size=n, max_size=n), min_size=3, max_size=3)
)


@settings(max_examples=25)
@given(studies)
def test_neither_a_replicate_nor_one_after_it_chooses_its_judge(values):
    cells = table(values)
    choice = choose(cells, 60, ARMS, "validation_accuracy")
    assert choice.before[0] is None
    for replicate, arm in list(enumerate(choice.before))[1:]:
        changed = cells.copy()
        later = changed["replicate"] >= replicate
        changed.loc[later, "validation_accuracy"] = np.random.default_rng(0).random(later.sum())
        assert choose(changed, 60, ARMS, "validation_accuracy").before[replicate] == arm
        assert choose(cells[~later], 60, ARMS, "validation_accuracy").arm == arm


@given(studies)
def test_many_studies_at_once_choose_as_each_does(values):
    one = np.array(values)
    several = np.stack([one, one[::-1], 1 - one])
    assert rows_before(several).tolist() == [rows_before(study).tolist() for study in several]
    assert best_row(several).tolist() == [best_row(study) for study in several]


def test_an_arm_that_is_best_by_far_is_chosen_throughout_and_its_own_difference_is_told():
    values = [[0.1, 0.2, 0.1], [0.7, 0.8, 0.9], [0.3, 0.2, 0.1]]
    choice = choose(table(values), 60, ARMS, "validation_accuracy")
    assert (choice.arm, set(choice.before[1:])) == (ARMS[1], {ARMS[1]})
    assert judged(table(values)).tolist() == [0.8, 0.9]


def test_arms_that_take_turns_at_luck_are_credited_with_none():
    cells = table(np.eye(3))  # each best in one replicate, by luck
    choice = choose(cells, 60, ARMS, "validation_accuracy")
    assert choice.arm == ARMS[0] and choice.before == (None, ARMS[0], ARMS[0])
    assert judged(cells).tolist() == [0, 0]  # the mean of each arm is a third


def test_where_there_is_nothing_to_choose_every_replicate_judges():
    choice = choose(table([[0.1, 0.2], [0.3, 0.4], [0.2, 0.2]]), 60, ARMS[1:2], "validation_accuracy")
    assert choice.before == (ARMS[1], ARMS[1])


def test_a_single_replicate_is_judged_by_what_it_chose():
    choice = choose(table([[0.1], [0.3], [0.2]]), 60, ARMS, "validation_accuracy")
    assert choice.before == (choice.arm,) == (ARMS[1],)


@pytest.mark.parametrize("arms", [ARMS, ARMS[::-1]])
def test_of_equal_arms_the_first_is_chosen_though_sums_round_otherwise(arms):
    values = [[0.3, 0.2, 0.1, 0.0], [0.1, 0.2, 0.3, 0.0], [0.3, 0.2, 0.1, 0.0]]
    assert np.mean(values[0][:3]) < np.mean(values[1][:3])  # by the last bit
    choice = choose(table(values), 60, arms, "validation_accuracy")
    assert choice.arm == choice.before[3] == arms[0]


def test_the_differences_of_replicates_are_uncorrelated_and_have_no_luck():
    """Three arms without an effect, the same noise on both splits: the choice of all replicates gains by it."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((20_000, 3, 4))
    before = rows_before(values)
    assert (before[:, 0] == NOTHING).all()
    differences = np.take_along_axis(values[:, :, 1:], before[:, None, 1:], axis=1)[:, 0]
    assert abs(differences.mean()) < 0.02
    assert np.abs(np.corrcoef(differences.T) - np.eye(3)).max() < 0.03
    assert np.take_along_axis(values, best_row(values)[:, None, None], axis=1).mean() > 0.3
