"""The figures of README and docs are those of the committed results."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from pipeline.maintenance.measured import TABLE, measured

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("result_tables", ROOT / "docs/result_tables.py")
result_tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(result_tables)


@pytest.mark.parametrize("page", result_tables.made())
def test_the_figures_are_those_of_the_committed_results(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == result_tables.with_made(text, result_tables.made()[page]), "python docs/result_tables.py"


def test_what_plan_reads_is_that_of_the_committed_results():
    assert TABLE.read_text(encoding="utf-8") == result_tables.measured_csv(), "python docs/result_tables.py"
    assert list(measured()) == result_tables.measured_rows()


def test_a_page_without_the_place_of_a_figure_is_refused():
    assert result_tables.with_made("a\n<!-- made: x -->\nold\n<!-- end -->\nb", {"x": ["new"]}) == (
        "a\n<!-- made: x -->\nnew\n<!-- end -->\nb"
    )
    with pytest.raises(SystemExit, match="made: y"):
        result_tables.with_made("a\n<!-- made: x -->\n<!-- end -->", {"y": []})


def test_the_runs_that_the_page_on_mlflow_prints_are_those_of_the_committed_study():
    """The page's snippet, on the same figures as MLflow shows."""
    cells = pd.read_csv(ROOT / "data/metrics/cells.csv")
    by_ratio = pd.DataFrame(
        {
            "params.real_images": cells["budget"].astype(str),
            "params.arm": cells["arm"],
            "params.synthetic_per_real": cells["synthetic_per_real"].map("{:g}".format),
            "accuracy": cells["test_accuracy"],
        }
    ).groupby(["params.real_images", "params.arm", "params.synthetic_per_real"])
    printed = by_ratio["accuracy"].agg(["mean", "min", "max"]).round(4).to_string()
    page = (ROOT / "docs/mlflow.md").read_text(encoding="utf-8")
    assert "\n".join(line.rstrip() for line in printed.splitlines()) in page
