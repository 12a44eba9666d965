"""The chart in the terminal: marks stand where their numbers are, in at most 80 columns."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pipeline.comparison.text_chart import metric_chart
from tests.conftest import REAL_PARAMS

ARM = "real_affine_elastic"


def comparison(*accuracies, metric="accuracy"):
    """A study with a budget for each (mean, low, high)."""
    columns = [f"test_{metric}{end}" for end in ("", "_low", "_high")]
    arms = [
        {"budget": budget, "arm": ARM, "synthetic_per_real": 0, "test_accuracy": 0.5}
        | dict(zip(columns, values, strict=True))
        for budget, values in enumerate(accuracies, 10)
    ]
    chosen = {"arm": ARM, "synthetic_per_real": 0}
    budgets = [
        {"budget": row["budget"], "best_classic": chosen, "best_synthetic": None, "recommended": chosen}
        for row in arms
    ]
    return {"metric": metric, "arms": arms, "budgets": budgets}


@st.composite
def accuracy(draw):
    low, mean, high = sorted(draw(st.tuples(*[st.floats(0, 1)] * 3)))
    return (mean, low, high) if draw(st.booleans()) else (mean, None, None)


@given(st.lists(accuracy(), min_size=1, max_size=5))
def test_marks_are_in_the_order_of_their_numbers(accuracies):
    head, *lines = metric_chart(comparison(*accuracies))
    rows = lines[1::2]  # after each budget's own line
    assert max(map(len, [head, *lines])) <= 80
    places = [line.index("●") for line in rows]
    by_accuracy = [
        place for _, place in sorted(zip([mean for mean, _, _ in accuracies], places, strict=True))
    ]
    assert by_accuracy == sorted(places)
    for line, (mean, low, _) in zip(rows, accuracies, strict=True):
        assert f"{100 * mean:.2f} " in line
        assert low is not None or line.rstrip().endswith("●")  # no interval, no line


def test_it_shows_the_metric_of_the_study_and_says_which():
    lines = metric_chart(comparison((0.8, 0.7, 0.9), metric="balanced_accuracy"))
    assert lines[0].startswith("test balanced accuracy, %") and " 80.00 " in lines[2]


def test_the_question_s_arms_are_there_and_a_star_recommends():
    shipped = json.loads((REAL_PARAMS.parent / "data/metrics/comparison.json").read_text())
    lines = metric_chart(shipped)
    assert lines[1] == "1000 real images"
    assert [line.split("  ")[0] for line in lines if line.startswith("*")] == ["* affine + elastic"]
    assert [line.split("×")[1].split()[0] for line in lines if "×" in line] == ["0.5", "1", "2"]


def test_with_a_pool_what_augmentation_alone_gives_is_there_too():
    study = REAL_PARAMS.parent / "docs/studies/pool_100/comparison.json"
    _, _, *rows = metric_chart(json.loads(study.read_text()))
    assert [row[2:24].rstrip() for row in rows] == [
        "real only",
        "affine + elastic",
        "+ pool by consistency,",
        "+ fresh synthetic + po",
    ]
