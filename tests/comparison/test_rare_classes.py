"""The section on rare classes: recalls from the counts, the arms' family, and the verdict by macro-F1."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.comparison.cells import cell_values, load_cells, load_confusion
from pipeline.comparison.rare_classes import compare_imbalance, with_imbalance, with_recalls
from pipeline.comparison.verdict import verdicts
from pipeline.errors import SynthGainError
from pipeline.statistics import detectable_effect_on_both, holm, paired_test
from pipeline.study.grid import DeclaredArm, Grid
from pipeline.study.trained_gans import Collapse, TrainedGans

ARMS = (
    "real",
    "real_affine_elastic",
    "fill_repeat",
    "class_weights",
    "fill_affine",
    "fill_extra_real",
    "fill_synthetic",
    "fill_synthetic_affine_elastic",
)
RARE = {"1": 0.05, "2": 0.01}
LEVEL = [0.900, 0.902, 0.898, 0.901]
BETTER = [0.921, 0.919, 0.922, 0.923]
BEST = [0.935, 0.931, 0.933, 0.936]
SAME = [0.901, 0.899, 0.902, 0.898]
WORSE = [0.880, 0.879, 0.884, 0.878]


def study(write_study, test, validation=None, **changes):
    """Scores by arm; what is not named scores LEVEL."""

    def score(values):
        return lambda arm, replicate: values.get(arm.name, LEVEL)[replicate % 4]

    options = {"arms": ARMS, "ratios": (0,), "replicates": 4, "imbalance": RARE}
    return write_study(
        test_accuracy=score(test), validation_accuracy=score(validation or test), **(options | changes)
    )


def section(files):
    return json.loads(files.comparison.read_text())["imbalance"]


def key(arm, synthetic_per_real=0):
    return {"arm": arm, "synthetic_per_real": synthetic_per_real}


def verdict(write_study, *scores, **changes):
    (row,) = section(study(write_study, *scores, **changes))["budgets"]
    return row


def test_without_a_rare_class_the_comparison_is_as_it_is(write_study):
    files = write_study()
    table, counts = load_cells(files.cells, files.grid)[0], load_confusion(files.confusion, files.grid)
    comparison = json.loads(files.comparison.read_text())
    assert "imbalance" not in comparison
    assert with_imbalance(comparison, table, counts, files.grid) is comparison


def test_recall_is_the_share_of_a_class_that_is_recognised(write_study):
    files = study(write_study, {"fill_synthetic": BETTER})
    confusion = load_confusion(files.confusion, files.grid)
    chosen = (confusion.arm == "fill_synthetic") & (confusion.actual == "2") & (confusion.replicate == 4)
    right = confusion.predicted == "2"
    confusion.loc[chosen & right, "count"], confusion.loc[chosen & ~right, "count"] = 71, 29
    cells = load_cells(files.cells, files.grid)[0].sample(frac=1, random_state=1)
    table = with_recalls(cells, confusion, ("1", "2"))
    arm = DeclaredArm("fill_synthetic", 0)
    ones, twos, mean = (
        cell_values(table, 60, arm, f"test_{name}") for name in ("recall_1", "recall_2", "rare_recall")
    )
    assert ones.tolist() == [0.92, 0.92, 0.92, 0.92] and twos.tolist() == [0.92, 0.92, 0.92, 0.71]
    assert mean == pytest.approx((ones + twos) / 2)


def test_a_class_that_is_never_predicted_has_no_recall(write_study):
    files = study(write_study, {})
    confusion = load_confusion(files.confusion, files.grid)
    confusion = confusion[(confusion.actual != "1") | (confusion.predicted != "1")]
    table = with_recalls(load_cells(files.cells, files.grid)[0], confusion, ("1",))
    assert (table["test_recall_1"] == 0).all()


def test_an_unknown_class_is_named(write_study):
    files = write_study()
    grid = Grid(files.grid.budgets, files.grid.ratios, 3, files.grid.arm_names, {"9": 0.1})
    with pytest.raises(SynthGainError, match="found class 9; the classes are 0, 1, 2"):
        compare_imbalance(load_cells(files.cells, grid)[0], load_confusion(files.confusion, grid), grid)


def test_every_arm_has_its_metrics_and_every_filling_arm_its_comparison_with_holm_over_arms(write_study):
    files = study(write_study, {"fill_synthetic": BETTER, "fill_repeat": SAME, "fill_affine": BEST})
    found = section(files)
    metrics = ["test_recall_1", "test_recall_2", "test_rare_recall", "test_macro_f1"]
    assert found["classes"] == RARE and found["metrics"] == metrics
    assert {row["arm"] for row in found["arms"]} == set(ARMS)
    for row in found["arms"]:
        for metric in metrics:
            assert row[f"{metric}_low"] <= row[metric] <= row[f"{metric}_high"]
    pairs = [(row["candidate"], row["baseline"], row["metric"]) for row in found["comparisons"]]
    filling = {name: "real" for name in ARMS if name.startswith(("fill", "class"))}
    filling["fill_synthetic_affine_elastic"] = "real_affine_elastic"
    assert sorted(pairs) == sorted(
        (name, base, metric) for name, base in filling.items() for metric in metrics
    )
    table = pd.read_csv(files.cells)
    rows = [row for row in found["comparisons"] if row["metric"] == "test_macro_f1"]
    tests = []
    for row in rows:
        before, after = (
            table[table.arm == row[role]].sort_values("replicate").test_macro_f1.to_numpy()
            for role in ("baseline", "candidate")
        )
        tests.append(paired_test(baseline=before, candidate=after))
        assert row["mean_difference"] == pytest.approx((after - before).mean(), abs=1e-6)
    expected = holm([test.p for test in tests])
    assert [row["p_holm"] for row in rows] == [
        p if p is None else pytest.approx(p, abs=1e-5) for p in expected
    ]
    assert any(p is not None and p > test.p for p, test in zip(expected, tests, strict=True))


def test_a_gain_over_the_best_remedy(write_study):
    row = verdict(
        write_study, {"fill_synthetic": BEST, "class_weights": BETTER, "fill_extra_real": [0.99] * 4}
    )
    assert row["best_remedy"] == key("class_weights")
    assert row["best_synthetic"] == row["recommended"] == key("fill_synthetic")
    assert row["code"] == "gain" and row["low"] > 0
    judged = np.subtract(BEST, BETTER)[1:]  # the first one only chooses
    expected = detectable_effect_on_both(judged, judged)
    assert row["minimum_detectable_effect"] == pytest.approx(expected.effect, abs=1e-6)
    assert row["verdict"].startswith(
        "With 60 real images and rare class 1 (5 %) and class 2 (1 %), use synthetic images in the gap:"
        f' +{100 * judged.mean():.2f} points of macro-F1 against the arm "rare classes weighted" ['
    )
    assert "points of rare-class recall" in row["verdict"]


@pytest.mark.parametrize(
    ("test", "validation", "code", "words"),
    [
        (
            {"fill_synthetic": SAME, "fill_synthetic_affine_elastic": WORSE},
            None,
            "no_detectable_effect",
            "Use the real images as they are",
        ),
        (
            {"fill_synthetic": BETTER, "fill_repeat": [0.921, 0.917, 0.926, 0.922]},
            None,
            "prefer_classic",
            'Prefer the arm "rare classes repeated"',
        ),
        (
            {"fill_synthetic": WORSE, "fill_synthetic_affine_elastic": WORSE},
            None,
            "harm",
            "do harm",
        ),
        (
            {"fill_synthetic": BETTER},
            {"fill_synthetic": SAME, "fill_synthetic_affine_elastic": WORSE},
            "gain_on_test_alone",
            "validation shows no gain",
        ),
        (
            {"fill_synthetic": SAME},
            {"fill_synthetic": BETTER},
            "gain_not_confirmed",
            "recommends synthetic images in the gap, but test does not confirm it",
        ),
    ],
)
def test_every_verdict_where_it_is_due(write_study, test, validation, code, words):
    row = verdict(write_study, test, validation)
    assert row["code"] == code and words in row["verdict"]


@pytest.mark.parametrize(
    ("best", "words"),
    [
        ("synthetic", "use 1.0 synthetic images per real one:"),
        ("fill_synthetic_logit_adjustment", 'by the arm "rare classes + synthetic, logits adjusted":'),
        (
            "fill_synthetic_affine_elastic",
            "use synthetic images in the gap with affine + elastic augmentation:",
        ),
    ],
)
def test_the_best_arm_with_synthetic_images_need_not_fill_the_gap_alone(write_study, best, words):
    """As many again of each class, or a fill beside a rival's remedy: validation chooses among them all."""
    arms = (*ARMS, "logit_adjustment", "fill_synthetic_logit_adjustment", "synthetic")
    row = verdict(write_study, {best: BEST, "logit_adjustment": BETTER}, arms=arms, ratios=(1.0,))
    assert row["best_remedy"] == key("logit_adjustment")
    assert row["best_synthetic"] == key(best, 1.0 if best == "synthetic" else 0)
    assert row["code"] == "gain" and words in row["verdict"]
    assert 'against the arm "logits adjusted"' in row["verdict"]


def test_each_rare_class_has_its_recall_against_the_best_rival(write_study):
    row = verdict(write_study, {"fill_synthetic": BEST, "class_weights": BETTER})
    assert set(row["recall_of_class"]) == set(RARE)
    parts = [found["mean_difference"] for found in row["recall_of_class"].values()]
    assert np.mean(parts) == pytest.approx(row["rare_recall"]["mean_difference"], abs=2e-6)
    assert all(
        found["low"] <= found["mean_difference"] <= found["high"] for found in row["recall_of_class"].values()
    )


def test_one_replicate_is_no_evidence(write_study):
    row = verdict(write_study, {"fill_synthetic": BETTER}, replicates=1)
    assert row["code"] == "too_few_replicates" and "no evidence" in row["verdict"]


def test_without_synthetic_images_in_the_gap_there_is_nothing_to_compare(write_study):
    row = verdict(write_study, {}, arms=("real", "fill_repeat"))
    assert row["code"] == "nothing_to_compare" and row["best_synthetic"] is None


def test_the_verdict_of_the_whole_starts_with_it(write_study):
    comparison = json.loads(study(write_study, {"fill_synthetic": BETTER}).comparison.read_text())
    assert comparison["verdict"].startswith(comparison["imbalance"]["budgets"][0]["verdict"])
    assert comparison["budgets"][0]["verdict"] in comparison["verdict"]
    assert verdicts(comparison) == [
        comparison["imbalance"]["budgets"][0]["verdict"],
        comparison["budgets"][0]["verdict"],
    ]


def test_a_remedy_is_not_judged_by_the_replicate_whose_luck_chose_it(write_study):
    lucky, steady = [0.95, 0.99, 0.95, 0.95], [0.958, 0.95, 0.958, 0.958]
    row = verdict(write_study, {"class_weights": lucky, "fill_repeat": steady, "fill_synthetic": [0.97] * 4})
    assert row["best_remedy"] == key("class_weights")
    assert [one["best_remedy"]["arm"] for one in row["judged_by"]] == ["fill_repeat"] + 2 * ["class_weights"]
    assert row["mean_difference"] == pytest.approx(0.02)
    assert row["validation"]["mean_difference"] == pytest.approx(0.02)
    assert "In 1 of 3 cases the replicates before chose otherwise." in row["verdict"]


def test_a_collapsed_gan_confirms_no_gain_for_rare_classes(write_study):
    gans = {60: TrainedGans(8, (Collapse(3, 1, "it diverged"),))}
    row = verdict(write_study, {"fill_synthetic": BETTER}, gans=gans, replicates=8)
    assert row["code"] == "gain_not_confirmed" and row["low"] > 0
    assert "not confirmed: 1 of 8 GANs collapsed" in row["verdict"]
    assert [by["replicate"] for by in row["judged_by"]] == [2, 4, 5, 6, 7, 8]
