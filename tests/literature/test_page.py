"""The table: published figures beside ours and never under the same heading, floors, failures, four formats."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.literature.page import cell_text, columns_of, complete_rows, write_comparison
from pipeline.literature.systems import SYSTEMS


def row(name: str, **changes: object) -> dict:
    title = next((system.title for system in SYSTEMS if system.name == name), name)
    return {
        "system": name,
        "title": title,
        "kind": "system",
        "fid": 3.21,
        "fid_scale": {"floor": 0.4, "n": 500, "extractor_sha256": "ab" * 32},
        "inception_score": 9.1,
        "label_fidelity": 0.98,
        "label_fidelity_per_class": {"0": 0.99, "1": 0.93},
        "cas_test": 0.9876,
        "gan_code_sha256": "cd" * 32,
        **changes,
    }


def losses() -> pd.DataFrame:
    return pd.DataFrame({"epoch": [1.0, 2.0], "d_loss": 0.7, "g_loss": [0.9, 0.72], "gap": [0.2, 0.02]})


@pytest.fixture
def written(tmp_path):
    def write(**changes):
        (tmp_path / "table_dcgan/images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "table_dcgan/images/samples.png")
        arguments = {
            "rows": [row("compact"), row("table_dcgan", title="table: DCGAN <i>")],
            "failures": {"mlp": "the training diverged"},
            "learning_rates": {"0.0001": losses()},
            "facts": {"data": "mnist, 55000 train images"},
        }
        write_comparison(tmp_path, **{**arguments, **changes})
        return tmp_path

    return write


def test_a_published_row_follows_its_system_and_says_what_it_is():
    rows = complete_rows([row("compact"), row("table_dcgan"), row("mlp")])
    assert [entry["system"] for entry in rows[:5]] == ["compact", "table_dcgan", "table_dcgan", "mlp", "mlp"]
    published = rows[2]
    assert published["kind"] == "published" and published["comparable"] is False
    assert published["published_fid"] == 15.8 and published["published_inception_score"] == 7.1
    assert "extractor" in published["protocol"]
    assert rows[4]["recognised_of_100"] == 0.95


def test_no_published_fid_stands_under_our_heading():
    for entry in complete_rows([row(system.name) for system in SYSTEMS]):
        measured = {"fid", "inception_score", "fid_floor", "kid"} & set(entry)
        assert bool(measured) == (entry["kind"] != "published")


def test_every_fid_has_its_floor_and_every_fidelity_its_worst_class():
    entry = complete_rows([row("compact")])[0]
    assert (entry["fid_floor"], entry["worst_class"]) == (0.4, 0.93)
    columns = {column.key: column for column in columns_of([entry])}
    assert "inception_fid" not in columns and "published_fid" not in columns
    assert cell_text(entry, columns["cas_test"]) == "98.76%"
    inception = complete_rows([row("compact", inception_fid=8.0, inception_fid_scale={"floor": 1.5})])[0]
    assert inception["inception_fid_floor"] == 1.5
    assert "inception_fid" in {column.key for column in columns_of([inception])}


def test_the_json_has_everything_and_the_csv_a_line_per_row(written):
    out = written()
    table = json.loads((out / "table.json").read_text())
    assert table["facts"] == {"data": "mnist, 55000 train images"}
    assert table["failures"] == {"mlp": "the training diverged"}
    assert table["rows"][0]["fid_scale"]["n"] == 500
    variant = table["learning_rates"]["variants"]["0.0001"]
    assert variant["equilibrium_epoch"] is None and len(variant["balance"]) == 2
    csv = pd.read_csv(out / "table.csv")
    assert list(csv["title"]) == [entry["title"] for entry in table["rows"]]
    assert csv["fid"].notna().sum() == 2


def test_the_markdown_is_a_table_of_even_width(written):
    lines = [line for line in (written() / "table.md").read_text().splitlines() if line.startswith("|")]
    first = lines[: len(lines) - 5]
    assert len({line.count("|") for line in first}) == 1
    assert any("as published †" in line and "15.8" in line for line in first)


def test_the_page_escapes_embeds_and_asks_nothing_of_the_network(written):
    html = (written() / "index.html").read_text()
    assert "table: DCGAN &lt;i&gt;" in html and "<i>" not in html
    assert html.count("data:image/png") == 1 and html.count("data:image/svg+xml") == 1
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert "No row for mlp" in html and "the training diverged" in html
    assert "Not comparable" in html and "different versions" not in html


def test_rows_of_different_code_are_marked(written):
    out = written(rows=[row("compact"), row("mlp", gan_code_sha256="ef" * 32)])
    assert "different versions of pipeline/gan" in (out / "index.html").read_text()


def test_without_the_study_its_section_is_missing(written):
    out = written(learning_rates={})
    assert "Learning rates" not in (out / "index.html").read_text()
    assert json.loads((out / "table.json").read_text())["learning_rates"] == {}
