"""The verdict says gain, no gain, harm and "not evidence" where each is due, and refuses unequal arms."""

import io
import json

import pandas as pd
import pytest

from pipeline.errors import SynthGainError
from pipeline.evaluation.cells import (
    DeclaredArm,
    Grid,
    cell_values,
    count_test_images,
    load_cells,
    load_confusion,
)
from pipeline.evaluation.comparison import compare_cells, points, points_interval, verdict_table
from pipeline.evaluation.statistics import mean_interval, paired_difference


def compared(files):
    return json.loads(files.comparison.read_text())


def scores(values):
    """A score function from {(arm, ratio): [one value per replicate]}; arms left out score 0.5."""

    def score(arm, replicate):
        found = values.get((arm.name, arm.synthetic_per_real), [0.5])
        return found[replicate % len(found)]

    return score


AFFINE = [0.960, 0.962, 0.958]
BETTER = [0.966, 0.967, 0.966]
WORSE = [0.950, 0.954, 0.949]
MIXED = [0.961, 0.960, 0.959]


def judge(write_study, test, validation=None, **study):
    files = write_study(
        ratios=(0.5, 1.0),
        test_accuracy=scores(test),
        validation_accuracy=scores(validation or test),
        **study,
    )
    comparison = compared(files)
    return comparison["budgets"][0]


def test_a_gain_is_recommended(write_study):
    row = judge(write_study, {("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): BETTER})
    assert (
        row["recommended"] == row["best_synthetic"] == {"arm": "synthetic_affine", "synthetic_per_real": 1.0}
    )
    assert row["low"] > 0
    expected = paired_difference(baseline=AFFINE, candidate=BETTER)
    assert (row["mean_difference"], row["low"], row["high"]) == pytest.approx(
        (expected.mean, expected.low, expected.high), abs=1e-6
    )
    assert row["verdict"] == (
        "With 60 real images, adding 1.0 synthetic images per real one to affine augmentation changed test"
        f" accuracy by +0.63 points (95 % interval {points_interval(row['low'], row['high'])}, 3 replicates):"
        " a gain; add 1.0 synthetic images per real one with affine augmentation."
    )


def test_no_detectable_gain_keeps_the_classic_arm(write_study):
    row = judge(write_study, {("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): MIXED})
    assert row["low"] < 0 < row["high"]
    assert row["recommended"] == row["best_classic"] == {"arm": "real_affine", "synthetic_per_real": 0}
    assert row["verdict"].endswith("no detectable gain; use affine augmentation alone.")


def test_harm_is_said(write_study):
    row = judge(write_study, {("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): WORSE})
    assert row["high"] < 0
    assert row["recommended"]["arm"] == "real_affine"
    assert row["verdict"].endswith("harm; use affine augmentation alone.")


def test_one_replicate_is_not_evidence(write_study):
    row = judge(write_study, {("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): BETTER}, replicates=1)
    assert row["low"] is None and row["high"] is None
    assert row["recommended"] == {"arm": "real_affine", "synthetic_per_real": 0}
    assert "(one replicate only, no interval): not evidence" in row["verdict"]


def test_equal_differences_are_not_evidence(write_study):
    row = judge(
        write_study,
        {("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): [value + 0.01 for value in AFFINE]},
    )
    assert row["low"] == row["high"] == 0.01
    assert row["recommended"]["arm"] == "real_affine"
    assert "not evidence" in row["verdict"]


def test_a_gain_on_test_alone_recommends_nothing(write_study):
    row = judge(
        write_study,
        test={("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): BETTER},
        validation={("real_affine", 0): BETTER, ("synthetic_affine", 1.0): AFFINE},
    )
    assert row["low"] > 0
    assert row["recommended"]["arm"] == "real_affine"
    assert "validation, which chooses, shows none; use affine augmentation alone" in row["verdict"]


def test_the_ratio_is_chosen_on_validation_though_another_is_better_on_test(write_study):
    row = judge(
        write_study,
        test={("real", 0): AFFINE, ("synthetic", 0.5): MIXED, ("synthetic", 1.0): BETTER},
        validation={("real", 0): AFFINE, ("synthetic", 0.5): BETTER, ("synthetic", 1.0): MIXED},
    )
    assert row["best_synthetic"] == {"arm": "synthetic", "synthetic_per_real": 0.5}
    # Recommended on validation: test does not confirm it, and chooses nothing itself.
    assert row["recommended"] == row["best_synthetic"]
    assert row["verdict"].endswith("recommends them, and test does not confirm it.")


def test_ties_go_to_fewer_images_then_to_no_augmentation(write_study):
    arms = [
        ("real", 0),
        ("real_affine", 0),
        ("synthetic", 0.5),
        ("synthetic_affine", 0.5),
        ("synthetic", 1.0),
    ]
    tied = dict.fromkeys(arms, AFFINE)
    row = judge(write_study, tied)
    assert row["best_classic"]["arm"] == "real"
    assert row["best_synthetic"] == {"arm": "synthetic", "synthetic_per_real": 0.5}
    assert row["recommended"]["arm"] == "real"


@pytest.mark.parametrize(
    ("classic", "synthetic", "words"),
    [
        ("real", "synthetic", "adding 1.0 synthetic images per real one to the real images changed"),
        ("real", "synthetic_affine", "per real one and affine augmentation to the real images changed"),
        (
            "real_affine",
            "synthetic",
            "1.0 synthetic images per real one in place of affine augmentation changed",
        ),
    ],
)
def test_the_sentence_says_what_was_compared(write_study, classic, synthetic, words):
    assert words in judge(write_study, {(classic, 0): AFFINE, (synthetic, 1.0): MIXED})["verdict"]


def test_every_declared_arm_and_comparison_is_there(write_study):
    files = write_study(budgets=(60, "all"), ratios=(0, 0.5, 2))
    comparison = compared(files)
    assert comparison["replicates"] == 3
    assert comparison["test_images"] == 300
    assert len(comparison["arms"]) == 2 * (2 + 2 * 3)
    keys = {
        (row["budget"], row["candidate"], row["baseline"], row["synthetic_per_real"], row["metric"])
        for row in comparison["comparisons"]
    }
    assert keys == {
        (budget, candidate, baseline, ratio, metric)
        for budget in (60, "all")
        for metric in ("test_accuracy", "test_macro_f1")
        for candidate, baseline, ratio in [
            ("real_affine", "real", 0),
            *(
                (candidate, baseline, ratio)
                for ratio in (0.5, 2)
                for candidate, baseline in (
                    ("synthetic", "real"),
                    ("synthetic_affine", "real_affine"),
                    ("synthetic_only", "real"),
                )
            ),
        ]
    }
    for row in comparison["comparisons"]:
        assert row["mean_difference"] == pytest.approx(sum(row["differences"]) / 3, abs=2e-6)
        assert row["low"] <= row["mean_difference"] <= row["high"]
    for budget in comparison["budgets"]:
        assert budget["verdict"] in comparison["verdict"]
    assert "chosen on validation" in comparison["verdict"]


def test_arm_intervals_are_those_of_its_cells(write_study):
    files = write_study()
    table, _ = load_cells(files.cells, files.grid)
    row = next(
        row for row in compared(files)["arms"] if row["arm"] == "synthetic" and row["synthetic_per_real"] == 1
    )
    values = cell_values(table, 60, DeclaredArm("synthetic", 1.0), "test_accuracy")
    expected = mean_interval(values)
    assert (row["test_accuracy"], row["test_accuracy_low"], row["test_accuracy_high"]) == pytest.approx(
        (expected.mean, expected.low, expected.high), abs=1e-6
    )


def test_without_a_positive_ratio_there_is_nothing_to_compare(write_study):
    row = compared(write_study(ratios=(0,)))["budgets"][0]
    assert row["best_synthetic"] is None
    assert "no arm with synthetic images was trained" in row["verdict"]


def test_the_order_of_rows_changes_nothing(write_study):
    files = write_study(budgets=(60, 90))
    before = files.comparison.read_text()
    rows = pd.read_csv(files.cells)
    rows.sample(frac=1, random_state=0).to_csv(files.cells, index=False)
    files.compare()
    assert files.comparison.read_text() == before


def test_undeclared_rows_are_ignored_and_counted(write_study):
    files = write_study(budgets=(60, 90), ratios=(0.5, 1.0), replicates=3)
    grid = Grid((60,), (1.0,), 2)
    table, ignored = load_cells(files.cells, grid)
    assert len(table) == len(grid.cells()) == 5 * 2
    assert ignored == 2 * 8 * 3 - 10
    assert compare_cells(table, grid, test_images=300)["replicates"] == 2
    assert count_test_images(load_confusion(files.confusion, grid)) == 300


def corrupt(files, change):
    rows = pd.read_csv(files.cells, dtype={"budget": str})
    change(rows).to_csv(files.cells, index=False)


def test_a_missing_cell_is_named(write_study):
    files = write_study()
    corrupt(files, lambda rows: rows.drop(index=rows.index[-1]))
    with pytest.raises(
        SynthGainError, match=r"no row for the cell budget 60, arm synthetic_only, .* 1, replicate 2;"
    ):
        load_cells(files.cells, files.grid)
    with pytest.raises(SynthGainError, match=r"replicate 3 \(and 8 more\)"):
        load_cells(files.cells, Grid((60,), (0.5, 1.0), 4))


def test_a_doubled_cell_is_named(write_study):
    files = write_study()
    corrupt(files, lambda rows: pd.concat([rows, rows.iloc[[0]]]))
    with pytest.raises(SynthGainError, match=r"two rows for the cell budget 60, arm real, .* replicate 0"):
        load_cells(files.cells, files.grid)


def set_last(column, value):
    def change(rows):
        rows.loc[rows.index[-1], column] = value
        return rows

    return change


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("optimizer_steps", 2000, r"optimizer_steps \[1000, 2000\]; every arm must train equally long"),
        ("batch_size", 128, r"batch_size \[64, 128\]"),
        ("real_subset_sha256", "f00", "budget 60, replicate 2 has arms from 2 real subsets"),
        ("test_accuracy", 97.0, "a metric outside 0..1 in the cell budget 60, arm synthetic_only"),
        ("test_accuracy", None, "column test_accuracy holds text"),
    ],
)
def test_what_cannot_be_compared_is_refused(write_study, column, value, message):
    files = write_study()
    corrupt(files, set_last(column, value))
    with pytest.raises(SynthGainError, match=message):
        load_cells(files.cells, files.grid)


def test_a_missing_or_foreign_file_is_named(write_study, tmp_path):
    files = write_study()
    with pytest.raises(SynthGainError, match=r"absent\.csv: no such file"):
        load_cells(tmp_path / "absent.csv", files.grid)
    with pytest.raises(SynthGainError, match="no column actual, predicted, count"):
        load_confusion(files.cells, files.grid)
    (tmp_path / "broken.csv").write_text('a,b\n"1,2\n')
    with pytest.raises(SynthGainError, match="not a readable table"):
        load_cells(tmp_path / "broken.csv", files.grid)


def test_different_test_splits_are_refused(write_study):
    files = write_study()
    confusion = load_confusion(files.confusion, files.grid)
    confusion.loc[0, "count"] += 1
    with pytest.raises(SynthGainError, match="300 to 301 test images"):
        count_test_images(confusion)


def test_points_have_a_sign_and_no_negative_zero():
    assert [points(value) for value in (0.0005, -0.002, 0.0, -0.00001)] == [
        "+0.05",
        "−0.20",
        "+0.00",
        "+0.00",
    ]
    assert points_interval(None, None) == "–"


def test_the_terminal_table_has_a_row_per_arm_and_one_star_per_budget(write_study):
    from rich.console import Console

    comparison = compared(write_study(budgets=(60, "all")))
    table = verdict_table(comparison)
    assert table.row_count == len(comparison["arms"])
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    assert sum("* real" in line for line in text.splitlines()) == 2
    assert "…" not in text
