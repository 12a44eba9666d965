"""`compare` writes what the library computed, prints the verdict, and explains what is wrong in one line."""

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from stages import compare


def arguments(files):
    return [
        *("--cells", str(files.cells)),
        *("--confusion", str(files.confusion)),
        *("--collapsed", str(files.collapsed)),
        *("--synthetic", str(files.root / "data/metrics/synthetic")),
        *("--out", str(files.comparison)),
        *("--summary", str(files.root / "data/metrics/summary.json")),
        *("--params", str(files.params)),
    ]


@pytest.fixture
def app():
    app = typer.Typer()
    app.command()(compare.main)
    return app


def test_writes_the_comparison_and_prints_the_verdict(app, write_study):
    files = write_study()
    expected = files.comparison.read_bytes()
    files.comparison.unlink()
    result = CliRunner().invoke(app, arguments(files), env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert files.comparison.read_bytes() == expected
    words = " ".join(result.output.split())
    for row in json.loads(expected)["budgets"]:
        assert row["verdict"] in words
    assert "ignored" not in result.output
    summary = json.loads((files.root / "data/metrics/summary.json").read_text())
    assert list(summary) == [str(row["budget"]) for row in json.loads(expected)["budgets"]]


def test_brackets_in_the_name_of_a_class_are_printed_as_they_are(app, write_study):
    files = write_study(
        class_names=("[bold]x", "[/bold]", "2"), imbalance={"[bold]x": 0.5, "[/bold]": 0.5}, replicates=2
    )
    result = CliRunner().invoke(app, arguments(files), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0 and "[bold]x" in result.output and "[/bold]" in result.output


def test_reads_declared_cells_only_and_says_so(app, write_study):
    files = write_study(ratios=(0.5, 1.0)).declare(synthetic_per_real=[1.0])
    result = CliRunner().invoke(app, arguments(files), env={"COLUMNS": "200"})
    assert "9 rows of cells that params.yaml does not declare were ignored" in result.output
    comparison = json.loads(files.comparison.read_text())
    assert {row["synthetic_per_real"] for row in comparison["arms"]} == {0, 1.0}


def test_a_missing_cell_is_one_line_and_leaves_the_old_file(write_study):
    files = write_study()
    before = files.comparison.read_bytes()
    lines = files.cells.read_text().splitlines()
    files.cells.write_text("\n".join(lines[:-1]) + "\n")
    result = subprocess.run(
        [sys.executable, "-m", "stages.compare", *arguments(files)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and "no row for the cell budget 60, arm synthetic_only" in line
    assert files.comparison.read_bytes() == before
