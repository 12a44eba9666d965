"""A choice is not judged by the replicates that made it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.comparison.cross_fitted_choice import choose, paired_choices
from pipeline.statistics import paired_test
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
    """The difference of the chosen arm to the real images."""
    choice = choose(cells, 60, ARMS, "validation_accuracy")
    return paired_choices(cells, 60, choice.without, [REAL] * len(choice.without), "test_accuracy")


accuracies = st.integers(0, 100).map(lambda value: value / 100)


@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(st.lists(accuracies, min_size=n, max_size=n), min_size=3, max_size=3)
    )
)
def test_what_a_replicate_says_of_itself_never_chooses_its_own_judge(values):
    cells = table(values)
    choice = choose(cells, 60, ARMS, "validation_accuracy")
    for replicate, arm in enumerate(choice.without):
        changed = cells.copy()
        changed.loc[changed["replicate"] == replicate, "validation_accuracy"] = np.arange(4)[::-1]
        assert choose(changed, 60, ARMS, "validation_accuracy").without[replicate] == arm
        rest = cells[cells["replicate"] != replicate].copy()
        rest["replicate"] -= rest["replicate"] > replicate
        assert choose(rest, 60, ARMS, "validation_accuracy").arm == arm


def test_an_arm_that_is_best_by_far_is_chosen_throughout_and_its_own_difference_is_told():
    values = [[0.1, 0.2, 0.1], [0.7, 0.8, 0.9], [0.3, 0.2, 0.1]]
    choice = choose(table(values), 60, ARMS, "validation_accuracy")
    assert (choice.arm, set(choice.without)) == (ARMS[1], {ARMS[1]})
    assert judged(table(values)) == paired_test(baseline=[0.0] * 3, candidate=values[1])


def test_arms_that_take_turns_at_luck_are_credited_with_none():
    values = np.eye(3)  # each best in one replicate, by luck
    cells = table(values)
    choice = choose(cells, 60, ARMS, "validation_accuracy")
    assert choice.arm == ARMS[0] and choice.without == (ARMS[1], ARMS[0], ARMS[0])
    assert judged(cells).difference.mean == 0  # the mean of each arm is a third


def test_a_single_replicate_is_judged_by_what_it_chose():
    choice = choose(table([[0.1], [0.3], [0.2]]), 60, ARMS, "validation_accuracy")
    assert choice.without == (choice.arm,) == (ARMS[1],)


@pytest.mark.parametrize("arms", [ARMS, ARMS[::-1]])
def test_of_equal_arms_the_first_is_chosen_though_sums_round_otherwise(arms):
    values = [[0.3, 0.2, 0.1], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]
    assert np.mean(values[0]) < np.mean(values[1])  # by the last bit
    assert choose(table(values), 60, arms, "validation_accuracy").arm == arms[0]


def test_luck_that_validation_and_test_share_is_no_gain_on_average():
    """Three arms without an effect, the same noise on both splits; the choice of all replicates gains by it."""
    rng = np.random.default_rng(0)
    cross_fitted, lucky = [], []
    for _ in range(150):
        cells = table(rng.standard_normal((3, 5)))
        cross_fitted.append(judged(cells).difference.mean)
        chosen = choose(cells, 60, ARMS, "validation_accuracy").arm
        lucky.append(cells[cells["synthetic_per_real"] == chosen.synthetic_per_real]["test_accuracy"].mean())
    error = np.std(cross_fitted) / np.sqrt(len(cross_fitted))
    assert abs(np.mean(cross_fitted)) < 3 * error < 0.15
    assert np.mean(lucky) > 0.3
