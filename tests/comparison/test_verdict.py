"""Every verdict of the closed set where it is due, the right baselines, and unequal arms refused."""

import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.comparison.cells import cell_values, count_test_images, load_cells, load_confusion
from pipeline.comparison.judgement import CODES, RULES, detectable_words, rule_for
from pipeline.comparison.texts import p_value, points, points_interval
from pipeline.comparison.verdict import compare_cells, verdict_table
from pipeline.errors import SynthGainError
from pipeline.report.advice import headline
from pipeline.statistics import (
    detectable_effect_on_both,
    holm,
    paired_difference,
    paired_test,
    share_interval,
)
from pipeline.study.arms import ARMS
from pipeline.study.grid import DeclaredArm, Grid
from pipeline.study.trained_gans import Collapse, TrainedGans

ROOT = Path(__file__).parents[2]


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
        **{"ratios": (0.5, 1.0), "replicates": 4}  # the first one only chooses
        | study,
        test_accuracy=scores(test),
        validation_accuracy=scores(validation or test),
    )
    comparison = compared(files)
    return comparison["budgets"][0]


def test_a_gain_is_recommended(write_study):
    row = judge(write_study, {("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): BETTER})
    assert (
        row["recommended"] == row["best_synthetic"] == {"arm": "synthetic_affine", "synthetic_per_real": 1.0}
    )
    assert row["code"] == "gain" and row["low"] > 0
    expected = paired_difference(baseline=AFFINE, candidate=BETTER)
    assert (row["mean_difference"], row["low"], row["high"]) == pytest.approx(
        (expected.mean, expected.low, expected.high), abs=1e-6
    )
    assert row["verdict"] == (
        "With 60 real images, use 1.0 synthetic images per real one with affine augmentation: +0.63 points of"
        f" test accuracy on top of affine augmentation [{points(row['low'])}, {points(row['high'])}]."
        " This is from 4 replicates, of which the first only chooses, with 95 % intervals."
    )


def test_no_detectable_effect_keeps_the_classic_arm_and_says_what_would_have_been_found(write_study):
    row = judge(write_study, {("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): MIXED})
    assert row["code"] == "no_detectable_effect" and row["low"] < 0 < row["high"]
    assert row["recommended"] == row["best_classic"] == {"arm": "real_affine", "synthetic_per_real": 0}
    # Of the rule, which asks for both splits; here they are alike, in the order of the judged replicates.
    judged = np.subtract(MIXED, AFFINE)[[1, 2, 0]]
    detectable = detectable_effect_on_both(judged, judged)
    assert row["minimum_detectable_effect"] == pytest.approx(detectable.effect, abs=1e-6)
    points = (
        f"{100 * detectable.effect:.2f} points ({100 * detectable.low:.2f} to {100 * detectable.high:.2f})"
    )
    assert f"An effect of about {points} would have been found 8 times in 10." in row["verdict"]
    assert "Use affine augmentation alone" in row["verdict"]


def test_a_study_that_could_find_no_possible_gain_says_that_it_cannot_tell(write_study):
    """The spread is so wide that only a gain beyond 100 % would have been found."""
    wide = [0.99, 0.91, 0.98]
    row = judge(write_study, {("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): wide})
    assert row["code"] == "no_detectable_effect"
    assert row["largest_gain"] == pytest.approx(1 - np.mean([*AFFINE, AFFINE[0]]), abs=1e-6)
    assert row["minimum_detectable_effect"] > row["largest_gain"]
    assert row["verdict"].startswith(
        "With 60 real images, this study is too small to tell whether 1.0 synthetic images per real one help: "
    )
    assert " Until more replicates tell, use affine augmentation alone." in row["verdict"]
    assert " 8 times in 10, and at most 4.00 points can be gained." in row["verdict"]
    assert headline(row, "accuracy").startswith(
        "60 real images: Not known: this study is too small to tell. "
    )


@pytest.mark.parametrize(
    "arms, ratios, nothing", [(["real", "synthetic"], (1.0,), True), (None, (0.5, 1.0), False)]
)
def test_a_study_without_a_choice_says_that_nothing_was_chosen(arms, ratios, nothing):
    grid = Grid((60,), ratios, 4, tuple(arms or ("real", "real_affine", "synthetic_affine")))
    cells = _any_cells(grid).assign(validation_images=5000)
    verdict = compare_cells(cells, grid, test_images=300)["budgets"][0]["verdict"]
    assert (" Nothing was chosen: " in verdict) == nothing
    assert ("were chosen with 5000 validation labels" in verdict) == (not nothing)


def test_harm_is_said(write_study):
    row = judge(write_study, {("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): WORSE})
    assert row["code"] == "harm" and row["high"] < 0
    assert row["recommended"]["arm"] == "real_affine"
    assert "do harm" in row["verdict"] and "Use affine augmentation alone" in row["verdict"]


def test_harm_comes_before_what_helps_real_only(write_study):
    row = judge(
        write_study,
        {
            ("real", 0): [0.900, 0.902, 0.899],
            ("synthetic", 1.0): [0.913, 0.916, 0.911],
            ("real_affine", 0): AFFINE,
            ("synthetic_affine", 1.0): WORSE,
        },
    )
    assert row["code"] == "harm" and row["over_real"]["low"] > 0
    assert row["recommended"]["arm"] == "real_affine"


def test_what_does_harm_on_test_is_not_recommended_though_validation_chose_it(write_study):
    row = judge(
        write_study,
        test={("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): WORSE},
        validation={("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): BETTER},
    )
    assert row["validation"]["low"] > 0 and row["high"] < 0
    assert row["code"] == "harm" and row["recommended"]["arm"] == "real_affine"
    assert "validation would choose 1.0 synthetic images per real one with affine" in row["verdict"]
    assert "but on test they do harm: −" in row["verdict"]


def test_the_rule_is_a_table_of_all_nine_cases():
    places = ("above", "around", "below")
    assert set(RULES) == {(validation, test) for validation in places for test in places}
    assert len({(rule.code, rule.recommends) for rule in RULES.values()}) == len(
        {rule.code for rule in RULES.values()}
    )
    for (validation, test), rule in RULES.items():
        assert (rule.code == "harm") == (test == "below")
        assert (rule.code == "gain") == (validation == test == "above")
        assert rule.recommends == (validation == "above" and test != "below")
        for helps in (False, True):
            found = rule_for(validation, test, helps_real_only=helps)
            preferred = helps and rule.code == "no_detectable_effect"
            assert found.code == ("prefer_classic" if preferred else rule.code)
            assert found.code in CODES and found.recommends == rule.recommends
    assert rule_for(None, "above").code == rule_for("above", None).code == "too_few_replicates"


def test_what_helps_real_only_and_not_the_best_classic_arm_prefers_the_classic_arm(write_study):
    on_top = MIXED
    row = judge(
        write_study,
        {
            ("real", 0): [0.900, 0.902, 0.899],
            ("synthetic", 1.0): [0.913, 0.916, 0.911],
            ("real_affine", 0): AFFINE,
            ("synthetic_affine", 1.0): on_top,
        },
    )
    assert row["code"] == "prefer_classic" and row["over_real"]["low"] > 0
    assert row["recommended"]["arm"] == "real_affine"
    over_real = row["over_real"]
    assert row["verdict"] == (
        "With 60 real images, 1.0 synthetic images per real one gave"
        f" +1.30 points of test accuracy over real only [{points(over_real['low'])}, {points(over_real['high'])}],"
        f" but {points(row['mean_difference'])} on top of affine augmentation"
        f" [{points(row['low'])}, {points(row['high'])}]. Prefer affine augmentation alone."
        " This is from 4 replicates, of which the first only chooses, with 95 % intervals."
    )


def test_the_gain_over_real_only_is_said_of_the_images_that_had_it(write_study):
    """Fixed images were compared with real only; the arm that validation chose shows fresh ones."""
    row = judge(
        write_study,
        {
            ("real", 0): [0.880, 0.882, 0.879],
            ("synthetic", 1.0): [0.893, 0.896, 0.891],
            ("real_affine", 0): AFFINE,
            ("synthetic_fresh_affine", 1.0): MIXED,
        },
        arms=("real", "real_affine", "synthetic", "synthetic_fresh_affine"),
    )
    assert row["code"] == "prefer_classic" and row["best_synthetic"]["arm"] == "synthetic_fresh_affine"
    assert "real images, 1.0 synthetic images per real one gave +1.30 points" in row["verdict"]
    assert f", but fresh ones {points(row['mean_difference'])} on top of affine" in row["verdict"]


def test_what_augmentation_gives_is_not_taken_for_a_gain_of_synthetic_images(write_study):
    """Affine lifts both arms far above real only: that alone prefers nothing."""
    row = judge(
        write_study,
        {
            ("real", 0): [0.900, 0.902, 0.899],
            ("synthetic", 1.0): [0.900, 0.901, 0.900],
            ("real_affine", 0): AFFINE,
            ("synthetic_affine", 1.0): MIXED,
        },
    )
    assert row["code"] == "no_detectable_effect"


def test_one_replicate_is_no_evidence(write_study):
    row = judge(write_study, {("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): BETTER}, replicates=1)
    assert row["code"] == "too_few_replicates"
    assert row["low"] is None and row["high"] is None and row["minimum_detectable_effect"] is None
    assert row["recommended"] == {"arm": "real_affine", "synthetic_per_real": 0}
    assert "no evidence: one replicate has no interval. Use affine augmentation alone" in row["verdict"]


def test_equal_differences_are_no_evidence(write_study):
    row = judge(
        write_study,
        {("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): [value + 0.01 for value in AFFINE]},
    )
    assert row["low"] == row["high"] == 0.01
    assert row["recommended"]["arm"] == "real_affine"
    assert row["code"] == "too_few_replicates" and "no evidence" in row["verdict"]


def test_a_gain_on_test_alone_recommends_nothing(write_study):
    row = judge(
        write_study,
        test={("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): BETTER},
        validation={("real_affine", 0): BETTER, ("synthetic_affine", 1.0): AFFINE},
    )
    assert row["code"] == "gain_on_test_alone" and row["low"] > 0
    assert row["recommended"]["arm"] == "real_affine"
    assert "validation shows no gain. Use affine augmentation alone" in row["verdict"]


def test_the_ratio_is_chosen_on_validation_though_another_is_better_on_test(write_study):
    row = judge(
        write_study,
        test={("real", 0): AFFINE, ("synthetic", 0.5): MIXED, ("synthetic", 1.0): BETTER},
        validation={("real", 0): AFFINE, ("synthetic", 0.5): BETTER, ("synthetic", 1.0): MIXED},
    )
    assert row["best_synthetic"] == {"arm": "synthetic", "synthetic_per_real": 0.5}
    # Recommended on validation: test does not confirm it, and chooses nothing itself.
    assert row["recommended"] == row["best_synthetic"]
    assert row["code"] == "gain_not_confirmed"
    assert "recommends 0.5 synthetic images per real one, but test does not confirm it" in row["verdict"]


def test_a_ratio_is_not_judged_by_the_replicate_whose_luck_chose_it(write_study):
    # At 1.0 the second replicate alone is better by chance, on both splits; at 0.5 the first and the others, by less.
    lucky, steady = [0.95, 0.99, 0.95, 0.95], [0.961, 0.95, 0.962, 0.961]
    values = {("synthetic", 1.0): lucky, ("synthetic", 0.5): steady, ("real", 0): [0.95] * 4}
    row = judge(write_study, values, arms=("real", "synthetic"))
    assert row["best_synthetic"] == {"arm": "synthetic", "synthetic_per_real": 1.0}
    assert [one["replicate"] for one in row["judged_by"]] == [2, 3, 4]
    assert [one["best_synthetic"]["synthetic_per_real"] for one in row["judged_by"]] == [0.5, 1.0, 1.0]
    assert row["mean_difference"] == 0  # 0.95 of the steady one, 0.95 and 0.95 of the lucky one
    assert row["verdict"].endswith(
        " This is from 4 replicates, of which the first only chooses, with 95 % intervals."
        " In 1 of 3 cases the replicates before chose otherwise."
    )


def test_the_classic_arm_is_chosen_by_those_before_too_and_validation_is_judged_in_the_same_way(write_study):
    # The first replicate alone makes plain the best classic arm: it judges the second one.
    affine, plain, more = [0.95, 0.99, 0.95, 0.95], [0.961, 0.95, 0.962, 0.961], [0.97] * 4
    values = {
        ("real_affine", 0): affine,
        ("real", 0): plain,
        ("synthetic", 0.5): more,
        ("synthetic", 1.0): more,
    }
    validation = values | {
        ("synthetic", 0.5): [0.96, 0.98, 0.96, 0.96],
        ("synthetic", 1.0): [0.969, 0.90, 0.969, 0.969],
    }
    row = judge(write_study, values, validation, arms=("real", "real_affine", "synthetic"))
    assert row["best_classic"]["arm"] == "real_affine"
    assert [one["best_classic"]["arm"] for one in row["judged_by"]] == ["real", "real_affine", "real_affine"]
    assert row["mean_difference"] == pytest.approx((0.02 + 0.02 + 0.02) / 3)
    assert row["best_synthetic"]["synthetic_per_real"] == 0.5
    assert [one["best_synthetic"]["synthetic_per_real"] for one in row["judged_by"]] == [1.0, 0.5, 0.5]
    assert row["validation"]["mean_difference"] == pytest.approx((0.90 - 0.95 + 0.01 + 0.01) / 3, abs=1e-6)
    assert "In 1 of 3 cases the replicates before chose otherwise." in row["verdict"]


def test_one_judged_replicate_is_no_evidence_and_two_are_warned_about(write_study):
    values = {("real_affine", 0): AFFINE, ("synthetic_affine", 1.0): BETTER}
    row = judge(write_study, values, replicates=2)
    assert row["code"] == "too_few_replicates" and row["low"] is None
    assert "the first replicate only chooses, and one judged replicate has no interval" in row["verdict"]
    warning = "An interval of two replicates rests on one difference"
    for replicates, warned in ((2, True), (3, True), (4, False)):
        grid = Grid((60,), (1.0,), replicates, ("real", "real_affine", "synthetic"))
        comparison = compare_cells(_any_cells(grid), grid, test_images=300)
        assert (warning in comparison["verdict"]) == warned, replicates


def test_a_study_that_chooses_with_more_labels_than_it_trains_on_says_so_and_what_the_choice_costs():
    grid = Grid((60,), (0.5, 1.0), 5, ("real", "real_affine", "synthetic_affine"))
    cells = _any_cells(grid)
    plain = compare_cells(cells, grid, test_images=300)["budgets"][0]
    assert "validation labels" not in plain["verdict"] and "few_labels" not in plain
    many = compare_cells(cells.assign(validation_images=5000), grid, test_images=300)["budgets"][0]
    assert (
        " Arm and ratio were chosen with 5000 validation labels." in many["verdict"]
        and many["validation_labels"] == 5000
    )
    few = many["few_labels"]
    # Chosen as if the few were all, and judged on the same test.
    as_all = cells.assign(validation_accuracy=cells["validation_few_accuracy"])
    expected = compare_cells(as_all, grid, test_images=300)["budgets"][0]
    same = ("best_classic", "best_synthetic", "mean_difference", "low", "high")
    assert {name: few[name] for name in same} == {name: expected[name] for name in same}
    assert few["labels"] == 60 and few["mean_difference"] != many["mean_difference"]
    arm = DeclaredArm("synthetic_affine", few["best_synthetic"]["synthetic_per_real"])
    assert f" With only 60 of these labels the choice would be {arm} against " in many["verdict"]
    assert many["verdict"].startswith(plain["verdict"][:60])


def test_the_same_choice_with_few_labels_is_said_to_be_the_same():
    grid = Grid((60,), (1.0,), 5, ("real", "synthetic"))
    cells = _any_cells(grid).assign(validation_images=5000)
    row = compare_cells(cells, grid, test_images=300)["budgets"][0]
    assert row["verdict"].endswith(" With only 60 of these labels the choice and the result are the same.")


def test_the_same_choice_that_not_each_replicate_makes_has_its_own_number():
    grid = Grid((60,), (0.5, 1.0), 3, ("real", "synthetic"))
    cells = _any_cells(grid).assign(
        validation_images=5000, validation_accuracy=0.9, validation_few_accuracy=0.9
    )
    at_one = cells["synthetic_per_real"] == 1.0
    first = cells["replicate"] == 1
    cells.loc[at_one, ["validation_accuracy", "validation_few_accuracy"]] = 0.92
    cells.loc[at_one & first, "validation_few_accuracy"] = (
        0.88  # with few labels, the second goes by another choice
    )
    row = compare_cells(cells, grid, test_images=300)["budgets"][0]
    assert row["few_labels"]["best_synthetic"] == row["best_synthetic"]
    assert (
        " With only 60 of these labels the choice is the same, but not in each replicate: " in row["verdict"]
    )


def _any_cells(grid, overlap=0.0):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(grid.cells(), columns=["budget", "arm", "synthetic_per_real", "replicate"]).assign(
        real_images=60,
        training_images=60,
        optimizer_steps=10,
        batch_size=64,
        real_subset_overlap=overlap,
        validation_images=60,
    )
    scores = ["validation_few_accuracy"] + [
        f"{split}_{metric}" for split in ("validation", "test") for metric in ("accuracy", "macro_f1")
    ]
    return rows.assign(**{score: 0.9 + 0.01 * rng.random(len(rows)) for score in scores})


def test_replicates_that_share_images_have_wider_intervals_and_the_sentence_says_so(write_study):
    grid = Grid((60,), (1.0,), 4, ("real", "real_affine", "synthetic"))
    rows = {}
    for overlap in (0.0, 0.25, 1.0):
        cells = _any_cells(grid, overlap)
        comparison = compare_cells(cells, grid, test_images=300)
        rows[overlap] = comparison["budgets"][0]
        assert rows[overlap]["subset_overlap"] == overlap
        expected = share_interval(
            cell_values(cells, 60, DeclaredArm("real", 0), "test_accuracy"), overlap=overlap
        )
        assert comparison["arms"][0]["test_accuracy_low"] == pytest.approx(expected.low, abs=1e-6)
    width = {overlap: row["high"] - row["low"] for overlap, row in rows.items()}
    assert width[0.25] == pytest.approx(width[0.0] * np.sqrt(3 * (1 / 3 + 1 / 3)), abs=3e-6)
    assert width[1.0] == width[0.0]
    assert (
        "Two replicates share 25 % of their real images; the intervals allow for that."
        in rows[0.25]["verdict"]
    )
    assert (
        "All replicates have the same real images: the intervals are about seeds alone."
        in rows[1.0]["verdict"]
    )


SPEC = importlib.util.spec_from_file_location("verdicts", ROOT / "benchmarks/verdict.py")
benchmark = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(benchmark)


@pytest.mark.parametrize(("added", "shared"), [(10, 0.0), (10, 0.5), (3, 0.8)])
@pytest.mark.parametrize("replicates", [4, 10])
def test_without_an_effect_synthetic_images_are_recommended_as_rarely_as_promised(added, shared, replicates):
    """4000 studies, judged by the library's own choice and rule; 2.5 % are nominal, their error is 0.25 %."""
    noise = benchmark.MadeUpNoise(added, shared)
    values = noise.draw(np.random.default_rng(1), 4000, replicates, effect=0.0)
    found = benchmark.judge(values, noise.classic)
    assert found["recommends"].mean() <= 0.032
    assert 0.018 <= (found["test"] == "below").mean() <= 0.032
    lucky = benchmark.judge(values, noise.classic, benchmark.leave_one_out)
    assert added < 10 or shared > 0 or lucky["recommends"].mean() > 0.038  # what the rule was before


def test_arms_for_rare_classes_are_one_family_wherever_they_are_listed(write_study):
    arms = ("real", "synthetic", "fill_repeat", "class_weights", "fill_synthetic")
    values = {("fill_repeat", 0): [0.51, 0.52, 0.54], ("fill_synthetic", 0): [0.52, 0.53, 0.56]}
    comparison = compared(
        write_study(
            ratios=(0.5,), arms=arms, replicates=3, test_accuracy=scores(values), imbalance={"1": 0.1}
        )
    )
    adjusted = [
        {
            row["candidate"]: row["p_holm"]
            for row in rows
            if row["metric"] == "test_macro_f1" and "fill" in row["candidate"]
        }
        for rows in (comparison["comparisons"], comparison["imbalance"]["comparisons"])
    ]
    assert adjusted[0] == adjusted[1] and all(adjusted[0].values())


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
        ("real", "synthetic", "points of test accuracy over real only ["),
        ("real", "synthetic_affine", "points of test accuracy with affine augmentation, over real only ["),
        ("real_affine", "synthetic", "but +0.00 against affine augmentation ["),
        ("real_affine", "synthetic_affine", "points of test accuracy on top of affine augmentation ["),
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
    expected = share_interval(values)
    assert (row["test_accuracy"], row["test_accuracy_low"], row["test_accuracy_high"]) == pytest.approx(
        (expected.mean, expected.low, expected.high), abs=1e-6
    )


def test_without_a_positive_ratio_there_is_nothing_to_compare(write_study):
    row = compared(write_study(ratios=(0,)))["budgets"][0]
    assert row["code"] == "nothing_to_compare" and row["low"] is None
    assert row["best_synthetic"] is None
    assert "no arm with real and synthetic images was trained" in row["verdict"]


def test_the_order_of_rows_changes_nothing(write_study):
    files = write_study(budgets=(60, 90))
    before = files.comparison.read_text()
    rows = pd.read_csv(files.cells)
    rows.sample(frac=1, random_state=0).to_csv(files.cells, index=False)
    files.compare()
    assert files.comparison.read_text() == before


def test_undeclared_rows_are_ignored_and_counted(write_study):
    files = write_study(budgets=(60, 90), ratios=(0.5, 1.0), replicates=3)
    grid = Grid((60,), (1.0,), 2, files.grid.arm_names)
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
        SynthGainError, match=r"no row for the cell budget 60, arm synthetic_only, .* 1, replicate 3;"
    ):
        load_cells(files.cells, files.grid)
    with pytest.raises(SynthGainError, match=r"replicate 4 \(and 8 more\)"):
        load_cells(files.cells, Grid((60,), (0.5, 1.0), 4, files.grid.arm_names))


def test_a_doubled_cell_is_named(write_study):
    files = write_study()
    corrupt(files, lambda rows: pd.concat([rows, rows.iloc[[0]]]))
    with pytest.raises(SynthGainError, match=r"two rows for the cell budget 60, arm real, .* replicate 1"):
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
        ("real_subset_sha256", "f00", "budget 60, replicate 3 has arms from 2 real subsets"),
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


ALL_ARMS = tuple(
    name
    for name, arm in ARMS.items()
    if arm.policy == "none" or (arm.policy in ("affine", "affine_elastic") and not arm.remedy)
)


def test_each_arm_is_compared_with_the_same_training_without_what_it_adds(write_study):
    comparison = compared(write_study(arms=ALL_ARMS, ratios=(1.0,)))
    assert {(row["candidate"], row["baseline"]) for row in comparison["comparisons"]} == {
        ("real_affine", "real"),
        ("real_affine_elastic", "real"),
        ("repeat", "real"),
        ("synthetic", "real"),
        ("synthetic_affine", "real_affine"),
        ("synthetic_affine_elastic", "real_affine_elastic"),
        ("synthetic_only", "real"),
        ("synthetic_filtered", "real"),
        ("synthetic_filtered_affine", "real_affine"),
        ("synthetic_filtered_affine_elastic", "real_affine_elastic"),
        ("synthetic_fresh", "real"),
        ("synthetic_fresh_affine", "real_affine"),
        ("synthetic_fresh_affine_elastic", "real_affine_elastic"),
        ("synthetic_fresh_filtered", "real"),
        ("synthetic_fresh_filtered_affine", "real_affine"),
        ("synthetic_fresh_filtered_affine_elastic", "real_affine_elastic"),
        ("fill_repeat", "real"),
        ("class_weights", "real"),
        ("deferred_weights", "real"),
        ("balanced_sampling", "real"),
        ("logit_adjustment", "real"),
        ("fill_synthetic_deferred_weights", "real"),
        ("fill_synthetic_logit_adjustment", "real"),
        ("fill_affine", "real"),
        ("fill_repeat_affine", "real_affine"),
        ("fill_repeat_affine_elastic", "real_affine_elastic"),
        ("fill_extra_real", "real"),
        ("fill_synthetic", "real"),
        ("fill_synthetic_affine", "real_affine"),
        ("fill_synthetic_affine_elastic", "real_affine_elastic"),
        ("extra_real", "real"),
        ("extra_real_affine", "real_affine"),
        ("extra_real_affine_elastic", "real_affine_elastic"),
        ("consistency_affine", "real_affine"),
        ("consistency_affine_elastic", "real_affine_elastic"),
        *[
            (f"{name}{policy}", f"real{policy}")
            for policy in ("", "_affine", "_affine_elastic")
            for name in ("pseudo_label", "labelled_pool", "pseudo_label_synthetic_fresh")
        ],
    }
    assert comparison["budgets"][0]["code"] in comparison["codes"] == CODES
    row = comparison["arms"][0]
    assert (row["training_images"], row["optimizer_steps"], row["batch_size"]) == (60, 1000, 64)


def test_controls_are_never_recommended(write_study):
    """Extra real images and a labelled pool win, and repeated ones beat every arm of the budget: none can be had."""
    best = {
        ("extra_real", 1.0): [0.99],
        ("labelled_pool", 0): [0.99],
        ("repeat", 1.0): [0.98],
        ("real_affine", 0): AFFINE,
    }
    best |= {("fill_extra_real", 0): [0.99], ("fill_repeat", 0): [0.98], ("fill_synthetic", 0): [0.97]}
    row = judge(write_study, best | {("synthetic_affine", 1.0): MIXED}, arms=ALL_ARMS)
    assert row["best_classic"]["arm"] == "real_affine"
    assert row["best_synthetic"]["arm"] == "synthetic_affine"


def test_the_best_use_of_a_pool_is_what_synthetic_images_have_to_beat(write_study):
    best = {("pseudo_label_affine", 0): [0.97, 0.972, 0.971], ("real_affine", 0): AFFINE}
    best |= {("pseudo_label_synthetic_fresh_affine", 1.0): [0.975, 0.976, 0.977]}
    row = judge(write_study, best, arms=ALL_ARMS)
    assert row["best_classic"]["arm"] == "pseudo_label_affine"
    assert row["best_synthetic"]["arm"] == "pseudo_label_synthetic_fresh_affine"
    assert "against real + pool with pseudo-labels, affine" in row["verdict"]


def test_self_training_that_collapsed_is_named_among_what_is_left_out(write_study):
    arms = ("real", "real_affine", "synthetic_affine", "pseudo_label_affine", "consistency_affine")
    files = write_study(arms=arms, ratios=(1.0,), left_out=[("pseudo_label_affine", 0)])
    (row,) = compared(files)["left_out"]
    assert row["arm"] == "pseudo_label_affine" and row["reason"].startswith("self-training collapsed")


def test_holm_corrects_over_the_whole_table_of_a_metric(write_study):
    files = write_study(budgets=(60, 90), ratios=(0.5, 1.0, 2.0), replicates=6)
    table, _ = load_cells(files.cells, files.grid)
    comparison = compared(files)
    rows = [row for row in comparison["comparisons"] if row["metric"] == "test_accuracy"]
    assert len(rows) == 2 * (1 + 3 * 3)
    assert comparison["holm_families"] == [
        {"question": "more images or other augmentation", "metric": metric, "comparisons": 20}
        for metric in ("test_accuracy", "test_macro_f1")
    ]
    tests = []
    for row in rows:
        before, after = (
            cell_values(table, row["budget"], DeclaredArm(row[role], ratio), "test_accuracy")
            for role, ratio in (("baseline", 0), ("candidate", row["synthetic_per_real"]))
        )
        tests.append(paired_test(baseline=before, candidate=after))
    assert [row["p"] for row in rows] == pytest.approx([test.p for test in tests], abs=1e-6)
    assert [row["p_holm"] for row in rows] == pytest.approx(holm([test.p for test in tests]), abs=2e-5)
    assert any(row["p_holm"] > row["p"] for row in rows)
    assert [row["p_sign_flip"] for row in rows] == [round(test.p_sign_flip, 6) for test in tests]
    assert [row["replicates_to_settle"] for row in rows] == [test.replicates_to_settle for test in tests]


def worth(write_study, synthetic, extra, **study):
    base = np.array([0.900, 0.902, 0.898])
    spread = np.array([0.001, -0.001, 0.0])
    arms = {("real", 0): list(base)}
    arms |= {("synthetic", ratio): list(base + gain + spread) for ratio, gain in synthetic.items()}
    arms |= {("extra_real", ratio): list(base + gain + spread) for ratio, gain in extra.items()}
    files = write_study(
        arms=("real", "synthetic", "extra_real"),
        ratios=tuple(synthetic),
        test_accuracy=scores(arms),
        **study,
    )
    return {row["synthetic_per_real"]: row for row in compared(files)["worth_in_real_images"]}


def test_a_synthetic_image_is_worth_the_real_ones_that_gain_as_much(write_study):
    rows = worth(write_study, {1.0: 0.010, 2.0: 0.012, 4.0: 0.0}, {1.0: 0.020, 2.0: 0.030, 4.0: 0.040})
    # The gain of 1.0 synthetic per real is that of 0.5 real per real: half of the first stretch of the line.
    assert rows[1.0]["real_images_per_synthetic"] == pytest.approx(0.5, abs=1e-3)
    assert rows[1.0]["low"] < 0.5 < rows[1.0]["high"]
    assert rows[2.0]["real_images_per_synthetic"] == pytest.approx(0.6 / 2, abs=1e-3)
    assert rows[4.0]["real_images_per_synthetic"] is None  # no gain, no worth


def test_a_worth_beyond_the_real_images_that_were_tried_is_not_told(write_study):
    rows = worth(write_study, {1.0: 0.050}, {1.0: 0.020})
    assert rows[1.0]["real_images_per_synthetic"] is None
    assert rows[1.0]["most_extra_real_per_real"] == 1.0


def test_an_arm_of_extra_real_images_may_be_left_out_as_a_whole_and_is_named(write_study):
    files = write_study(arms=ALL_ARMS, ratios=(1.0, 2.0), left_out=[("extra_real", 2.0)])
    comparison = compared(files)
    (row,) = comparison["left_out"]
    assert (row["arm"], row["synthetic_per_real"]) == ("extra_real", 2.0)
    assert row["reason"] == "the train split has too few other real images"
    assert ("extra_real", 2.0) not in {(r["arm"], r["synthetic_per_real"]) for r in comparison["arms"]}
    corrupt(files, lambda rows: rows.drop(index=rows.index[(rows.arm == "extra_real")][-1]))
    with pytest.raises(
        SynthGainError, match=r"no row for the cell budget 60, arm extra_real, .* replicate 3"
    ):
        load_cells(files.cells, files.grid)


def test_another_arm_may_not_be_left_out(write_study):
    with pytest.raises(SynthGainError, match=r"arm repeat, .* \(and 2 more\)"):
        write_study(arms=ALL_ARMS, ratios=(1.0,), left_out=[("repeat", 1.0)])


def test_the_error_of_the_test_split_is_told_once(write_study):
    comparison = compared(write_study(test_accuracy=scores({("real", 0): [0.9]})))
    assert comparison["test_sampling_error"] == {
        "accuracy": 0.9,
        "standard_error": pytest.approx((0.9 * 0.1 / 300) ** 0.5, abs=1e-6),
    }


def test_p_values_are_short():
    assert [p_value(p) for p in (None, 0.0004, 0.0123, 0.5)] == ["–", "<0.001", "0.012", "0.50"]


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

    comparison = compared(write_study(budgets=(60, "all"), arms=ALL_ARMS))
    comparison["comparisons"][-2] |= {"low": -0.1681, "high": 0.2212, "p_holm": 0.0001}  # as wide as they get
    table = verdict_table(comparison)
    assert table.row_count == len(comparison["arms"])
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    assert sum("* real" in line for line in text.splitlines()) == 2
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    # Every comparison stands in it, those of classic arms with real only too.
    families = [each for each in comparison["holm_families"] if each["metric"] == "test_accuracy"]
    assert sum(map(bool, table.columns[5].cells)) == sum(each["comparisons"] for each in families)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("synthetic_filtered", "use 1.0 filtered synthetic images per real one: +0.63"),
        ("synthetic_fresh", "use 1.0 fresh synthetic images per real one: +0.63"),
        (
            "synthetic_fresh_filtered_affine_elastic",
            "use 1.0 fresh filtered synthetic images per real one with affine + elastic",
        ),
    ],
)
def test_the_sentence_says_which_synthetic_images(write_study, name, words):
    baseline = ARMS[name].baseline
    arms = tuple(dict.fromkeys(("real", baseline, name)))
    row = judge(write_study, {(baseline, 0): AFFINE, (name, 1.0): BETTER}, arms=arms)
    assert row["best_synthetic"]["arm"] == name and words in row["verdict"]


def collapsed(*numbers, budget=60, gans=3):
    return {budget: TrainedGans(gans, tuple(Collapse(i, 1, "the generator has collapsed") for i in numbers))}


def test_a_collapsed_gan_stands_beside_the_verdict_and_confirms_no_gain(write_study):
    values = {("real_affine", 0): [*AFFINE, 0.961], ("synthetic_affine", 1.0): [*BETTER, 0.968]}
    row = judge(write_study, values, replicates=4, gans=collapsed(2, gans=4))
    chosen = [2, 3]  # the first one only chooses
    expected = paired_difference(
        baseline=np.array(values["real_affine", 0])[chosen],
        candidate=np.array(values["synthetic_affine", 1.0])[chosen],
    )
    assert (row["mean_difference"], row["low"], row["high"]) == pytest.approx(
        (expected.mean, expected.low, expected.high), abs=1e-6
    )
    assert row["low"] > 0 and row["validation"]["low"] > 0 and row["code"] == "gain_not_confirmed"
    assert f"test agrees: {points(row['mean_difference'])} points" in row["verdict"]
    assert "not confirmed: 1 of 4 GANs collapsed" in row["verdict"]
    assert row["verdict"].endswith("with 95 % intervals.") and row["verdict"].count("collapsed") == 1
    assert (row["gans"], row["left_out_replicates"], row["collapse"]) == (4, [2], "1 of 4 GANs collapsed")
    assert row["collapsed"] == [{"replicate": 2, "generator": 1, "reason": "the generator has collapsed"}]
    assert [by["replicate"] for by in row["judged_by"]] == [3, 4]


@pytest.mark.parametrize(
    ("synthetic", "code"),
    [(MIXED, "no_detectable_effect"), (WORSE, "harm")],
)
def test_a_verdict_that_is_no_gain_stays_what_it_is_and_names_the_collapse(write_study, synthetic, code):
    values = {("real_affine", 0): [*AFFINE, 0.960], ("synthetic_affine", 1.0): [*synthetic, 0.9]}
    row = judge(write_study, values, replicates=4, gans=collapsed(4, gans=4))
    assert row["code"] == code
    assert "3 replicates, of which the first only chooses, with 95 % intervals." in row["verdict"]
    assert row["verdict"].endswith(" 1 of 4 GANs collapsed.")


def test_every_arm_of_a_budget_is_a_mean_over_the_same_replicates(write_study):
    files = write_study(budgets=(60, 200), arms=ALL_ARMS, gans=collapsed(1))
    comparison = compared(files)
    counts = {(row["budget"], row["arm"]): row["replicates"] for row in comparison["arms"]}
    assert {count for (budget, _), count in counts.items() if budget == 60} == {2}
    assert {count for (budget, _), count in counts.items() if budget == 200} == {3}
    assert "collapsed" in comparison["budgets"][0] and "collapsed" not in comparison["budgets"][1]
    # The classifiers without synthetic images are there, and neither compared nor called undeclared.
    assert set(pd.read_csv(files.cells).query("budget == 60 and arm == 'real'")["replicate"]) == {1, 2, 3}
    assert load_cells(files.cells, files.grid)[1] == 0
    assert verdict_table(comparison).title.endswith("mean of 2 to 3 replicates")


def test_where_nothing_collapsed_the_comparison_says_nothing_of_it(write_study):
    files = write_study()
    assert "ollaps" not in files.comparison.read_text()


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.0016, 0.0044, "about 0.24 points (0.16 to 0.44)"),
        (0.04, 3.17, "about 0.24 points (4.00 to over 100)"),
    ],
)
def test_an_effect_that_no_accuracy_can_have_is_not_printed(low, high, said):
    ends = {"minimum_detectable_effect_low": low, "minimum_detectable_effect_high": high}
    assert detectable_words({"minimum_detectable_effect": 0.0024, **ends}, "points") == said
