"""docs/reference.md is that of today's parameters, and names every metric that a stage writes, and no other."""

import importlib.util
import json
import re
from pathlib import Path

import pandas as pd

from pipeline.scoring.pool_rows import pool_table

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("reference_page", ROOT / "docs/reference_page.py")
reference_page = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference_page)


def test_the_page_is_that_of_todays_parameters_and_says_what_each_is():
    page = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    assert page == reference_page.page(), "python docs/reference_page.py writes it anew"
    parameters = page.split("## Metrics")[0]
    assert not re.findall(r"^\| `\w+` \|.*\|  \|$", parameters, flags=re.M), (
        "a key without a comment in params.yaml"
    )


def test_bounds_are_those_that_the_models_check():
    rows = dict(re.findall(r"^\| `(\w+)` \| `[^|]*` \| (.*?) \|", reference_page.page(), flags=re.M))
    assert rows["folder_test_fraction"] == "number, > 0, < 1"
    assert rows["fill"] == "number, ≥ 0, ≤ 255 or `edge`, `mean`"
    assert rows["film_strip_frames"] == "whole number, ≥ 2, ≤ 201"


def test_each_metric_that_a_stage_writes_has_its_line(write_study):
    metrics = ROOT / "data/metrics"
    named = reference_page.METRICS

    def known(file, names):
        patterns = [re.escape(name).replace("<class>", ".+") for name in named[file]]
        return [name for name in names if not any(re.fullmatch(pattern, name) for pattern in patterns)]

    cells = [
        name for name in pd.read_csv(metrics / "cells.csv").columns if re.match("test_|validation_", name)
    ]
    assert known("cells.csv", cells) == ["validation_images"]
    shares = pool_table([]).columns.drop(
        ["budget", "replicate", "pool_images", "least_probability", "kept", "kept_least_class"]
    )
    assert list(shares) == list(named["pool.csv"])
    (budget,) = json.loads((metrics / "summary.json").read_text()).values()
    assert list(budget) == list(named["summary.json"])
    synthetic = json.loads((metrics / "synthetic/1000.json").read_text())
    replicate = synthetic["replicates"]["1"]
    of_copies = replicate.pop("memorization")
    counts = ["fid_scale", "label_fidelity_images"]
    assert known("synthetic/<budget>.json", replicate) == counts
    assert set(of_copies["pixel"]) == set(named["synthetic/<budget>.json, memorization"])
    row = json.loads((metrics / "comparison.json").read_text())["comparisons"][0]
    numbers = [name for name, value in row.items() if isinstance(value, float) or name.startswith("p")]
    ends = [name for name in numbers if re.search("_(low|high)$", name)]
    assert set(known("comparison.json, comparisons", numbers)) - set(ends) <= {"synthetic_per_real"}
