"""The figures of README and docs are those of the committed results."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("result_tables", ROOT / "docs/result_tables.py")
result_tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(result_tables)


@pytest.mark.parametrize("page", [*result_tables.PAGES, result_tables.ARMS_PAGE, result_tables.POOL_PAGE])
def test_the_tables_are_those_of_the_committed_results(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for table in result_tables.tables(page):
        assert "\n".join(table) in text, f"python docs/result_tables.py {page} prints what it should say"


@pytest.mark.parametrize("page", result_tables.PAGES)
def test_the_verdict_is_that_of_the_committed_results(page):
    verdict = result_tables.committed_results(result_tables.PAGES[page]).comparison["verdict"]
    assert verdict in (ROOT / page).read_text(encoding="utf-8")


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
