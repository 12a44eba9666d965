import pytest

from pipeline.errors import SynthGainError
from pipeline.study.grid import Grid
from pipeline.study.trained_gans import (
    Collapse,
    TrainedGans,
    load_trained_gans,
    remaining_replicates,
    save_trained_gans,
)

SECOND = TrainedGans(6, (Collapse(2, 1, "it diverged"), Collapse(2, 2, "it collapsed")))


def test_what_was_written_is_read_and_says_which_replicates_are_left(tmp_path):
    file = tmp_path / "60.json"
    save_trained_gans(file, SECOND)
    assert load_trained_gans(file) == SECOND
    assert remaining_replicates(file, declared=3) == [0, 2]  # of folders and seeds: from 0
    assert SECOND.left_out == [2] and SECOND.words == "2 of 6 GANs collapsed"
    save_trained_gans(file, TrainedGans(3))
    assert remaining_replicates(file, declared=3) == [0, 1, 2] and load_trained_gans(file).words == ""


def test_a_study_from_before_there_was_such_a_file_leaves_nothing_out(tmp_path):
    assert remaining_replicates(tmp_path / "60.json", declared=2) == [0, 1]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"gans": 3}', '{"gans": 3, "collapsed": [{"replicate": 2}]}']
)
def test_a_damaged_file_is_one_line(tmp_path, text):
    (tmp_path / "60.json").write_text(text)
    with pytest.raises(SynthGainError, match=r"60\.json: does not say which GANs collapsed .*; `dvc repro`"):
        load_trained_gans(tmp_path / "60.json")


def test_a_replicate_that_is_left_out_has_no_cell_in_its_budget_only():
    grid = Grid((60, 200), (1.0,), 3, ("real", "synthetic"), gans={60: SECOND})
    numbers = {(budget, arm): set() for budget in ("60", "200") for arm in ("real", "synthetic")}
    for budget, arm, _, replicate in grid.cells():
        numbers[budget, arm].add(replicate)
    assert numbers == {
        ("60", "real"): {1, 3},
        ("60", "synthetic"): {1, 3},
        ("200", "real"): {1, 2, 3},
        ("200", "synthetic"): {1, 2, 3},
    }
