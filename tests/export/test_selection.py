"""Which budget is handed over, and what is said about it."""

import json

import pytest

from pipeline.errors import SynthGainError
from pipeline.export.selection import Selection, select_budget


def comparison(tmp_path, ratios):
    """A comparison that recommends these ratios per budget (0: real images only)."""
    rows = [
        {
            "budget": budget,
            "recommended": {
                "arm": "synthetic_affine" if ratio else "real_affine",
                "synthetic_per_real": ratio,
            },
            "verdict": f"verdict at {budget}",
        }
        for budget, ratio in ratios.items()
    ]
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps({"budgets": rows}))
    return path


@pytest.mark.parametrize(
    ("ratios", "wanted", "expected"),
    [
        ({100: 0, 1000: 0.5, 5000: 0}, "recommended", Selection(1000, True, 0.5, "verdict at 1000")),
        ({100: 2, 1000: 0.5, "all": 0}, "recommended", Selection(1000, True, 0.5, "verdict at 1000")),
        ({5000: 0, 100: 0}, "recommended", Selection(5000, False, 0, "verdict at 5000")),
        ({"all": 0, 100: 0}, "recommended", Selection("all", False, 0, "verdict at all")),
        ({100: 2, 1000: 0}, 1000, Selection(1000, False, 0, "verdict at 1000")),
    ],
)
def test_the_recommended_budget_or_the_one_asked_for(tmp_path, ratios, wanted, expected):
    assert select_budget(comparison(tmp_path, ratios), wanted=wanted, declared=list(ratios)) == expected


def test_the_note_does_not_hide_a_no():
    assert (
        Selection(1000, False, 0, "no gain.").note
        == "The study does not recommend adding these images. no gain."
    )
    assert Selection(1000, True, 1.0, "+0.4 pp.").note == (
        "The study recommends adding 1 of these images per real image. +0.4 pp."
    )


def test_undeclared_budgets_are_not_exported(tmp_path):
    path = comparison(tmp_path, {100: 0, 1000: 2})
    assert select_budget(path, wanted="recommended", declared=[100]).budget == 100


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"budgets": [{"budget": 1}]}', '{"budgets": null}'])
def test_a_damaged_comparison_is_one_clear_line(tmp_path, content):
    path = tmp_path / "comparison.json"
    path.write_text(content)
    with pytest.raises(SynthGainError, match=r"comparison\.json: not a readable comparison"):
        select_budget(path, wanted="recommended", declared=[100])


def test_a_missing_comparison_or_budget_says_what_to_run(tmp_path):
    with pytest.raises(SynthGainError, match="no such file; `dvc repro compare` makes it"):
        select_budget(tmp_path / "none.json", wanted="recommended", declared=[100])
    with pytest.raises(SynthGainError, match="no verdict for budget 200; run the compare stage again"):
        select_budget(comparison(tmp_path, {100: 0}), wanted=100, declared=[100, 200])
