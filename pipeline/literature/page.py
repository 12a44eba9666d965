"""The comparison as files: table.json, table.csv, table.md, and index.html with the pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from pipeline.literature.learning_rates import (
    EQUILIBRIUM_GAP,
    balance_table,
    equilibrium_epoch,
    heat_map_tables,
)
from pipeline.literature.systems import ELSEWHERE, PUBLISHED_BALANCE, SYSTEMS
from pipeline.report.charts import loss_heat_maps
from pipeline.report.drawing import svg_file, svg_tree
from pipeline.runtime.outputs import write_text

_TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


@dataclass(frozen=True)
class Column:
    """A column of the table: its key in a row, its heading, and how a number is written."""

    key: str
    heading: str
    form: str


COLUMNS = (  # what a synthetic image is worth first
    Column("cas_test", "CAS test ↑", ".2%"),
    Column("cas_validation", "CAS validation ↑", ".2%"),
    Column("label_fidelity", "label fidelity ↑", ".2%"),
    Column("worst_class", "its worst class ↑", ".2%"),
    Column("fid", "FID ↓", ".2f"),
    Column("fid_floor", "its floor", ".2f"),
    Column("inception_score", "IS ↑", ".2f"),
    Column("kid", "KID ↓", ".4f"),
    Column("precision", "precision ↑", ".3f"),
    Column("recall", "recall ↑", ".3f"),
    Column("density", "density ↑", ".3f"),
    Column("coverage", "coverage ↑", ".3f"),
    Column("recognised_of_100", "of 100 pictured ↑", ".0%"),
    Column("parzen_nats", "Parzen nats", ".1f"),
    Column("parzen_standard_error", "±", ".1f"),
    Column("d_accuracy_real", "D right on real", ".1%"),
    Column("d_accuracy_fake", "D right on fake", ".1%"),
    Column("d_loss", "D loss", ".3f"),
    Column("g_loss", "G loss", ".3f"),
    Column("generator_parameters", "G weights", ",.0f"),
    Column("discriminator_parameters", "D weights", ",.0f"),
    Column("images_per_second", "images/s", ",.0f"),
)
# Only where evaluation.features is inception: FIDs of two extractors never share a column.
_INCEPTION_COLUMNS = (
    Column("inception_fid", "Inception FID ↓", ".2f"),
    Column("inception_fid_floor", "its floor", ".2f"),
    Column("inception_kid", "Inception KID ↓", ".4f"),
)
# As a paper prints them, by an extractor that it does not name: neither of ours.
_PUBLISHED_COLUMNS = (
    Column("published_fid", "published FID †", ".1f"),
    Column("published_inception_score", "published IS †", ".1f"),
)


def complete_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their floors and worst classes as columns, each followed by its paper's own figures.

    A row of published figures has `kind: published`, `comparable: false` and its `protocol`. What a paper does
    not report is missing from its row.
    """
    published = {system.name: system.published for system in (*SYSTEMS, *ELSEWHERE)}
    complete = []
    for row in rows:
        values = dict(row)
        for prefix in ("", "inception_"):
            if scale := values.get(f"{prefix}fid_scale"):
                values[f"{prefix}fid_floor"] = scale["floor"]
        if classes := values.get("label_fidelity_per_class"):
            values["worst_class"] = min(classes.values())
        complete.append({**values, "comparable": True})
        if paper := published[values["system"]] if values["system"] in published else None:
            complete.append(_published_row(values["system"], values["title"], paper.figures, paper.protocol))
    for system in ELSEWHERE:
        if system.published:
            complete.append(
                _published_row(system.name, system.title, system.published.figures, system.published.protocol)
            )
    return complete


def _published_row(name: str, title: str, figures: Mapping[str, float], protocol: str) -> dict[str, Any]:
    return {
        "system": name,
        "title": f"{title}, as published †",
        "kind": "published",
        "comparable": False,
        "protocol": protocol,
        **figures,
    }


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The columns that some row has a value for."""
    known = (*COLUMNS, *_INCEPTION_COLUMNS, *_PUBLISHED_COLUMNS)
    return [column for column in known if any(column.key in row for row in rows)]


def cell_text(row: Mapping[str, Any], column: Column) -> str:
    """A value as the table shows it; empty where the row has none."""
    value = row.get(column.key)
    return "" if value is None else f"{value:{column.form}}"


def write_comparison(
    out: Path,
    *,
    rows: Sequence[Mapping[str, Any]],
    failures: Mapping[str, str],
    learning_rates: Mapping[str, pd.DataFrame],
    facts: Mapping[str, Any],
) -> None:
    """Write `table.{json,csv,md}` and `index.html`.

    Args:
        out: where to; each system's pictures are below it, as `comparison` left them.
        rows: as `comparison.evaluate_rows` gives them.
        failures: system → why it has no row.
        learning_rates: variant → losses with epochs, as `learning_rates.with_epochs` gives them; may be empty.
        facts: how it was run: budget, data, machine; shown as they are.
    """
    complete = complete_rows(rows)
    columns = columns_of(complete)
    study = _study(learning_rates)
    table = {
        "facts": dict(facts),
        "rows": complete,
        "failures": dict(failures),
        "learning_rates": study,
        "not_comparable": _NOT_COMPARABLE,
    }
    write_text(out / "table.json", json.dumps(table, indent=2, sort_keys=True) + "\n")
    keys = ["system", "title", "kind", "comparable", *(column.key for column in columns), "protocol"]
    frame = pd.DataFrame(complete).reindex(columns=keys)
    write_text(out / "table.csv", frame.to_csv(index=False, lineterminator="\n"))
    write_text(out / "table.md", _markdown(complete, columns, failures, study, facts))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("literature.html").render(
        facts=facts,
        columns=columns,
        rows=[(row, [cell_text(row, column) for column in columns]) for row in complete],
        failures=failures,
        not_comparable=_NOT_COMPARABLE,
        same_code=len({row["gan_code_sha256"] for row in complete if "gan_code_sha256" in row}) <= 1,
        pictures=_pictures(out, complete),
        study=study,
        heat_maps=_heat_maps(learning_rates),
        gap=EQUILIBRIUM_GAP,
    )
    write_text(out / "index.html", html)


_NOT_COMPARABLE = (
    "† Not comparable: the papers' systems were measured by other protocols (extractor, n, floor and budget differ or"
    " are not stated; most see no labels, ours all do). FID and KID here are of this data set's own extractor."
)


def _study(losses: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The loss-balance tables and equilibria as JSON values; empty without the study."""
    if not losses:
        return {}
    return {
        "gap": EQUILIBRIUM_GAP,
        "published": {**PUBLISHED_BALANCE, "comparable": False},
        "variants": {
            name: {
                "equilibrium_epoch": equilibrium_epoch(table),
                "balance": balance_table(table).round(4).to_dict("records"),
            }
            for name, table in losses.items()
        },
    }


def _markdown(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[Column],
    failures: Mapping[str, str],
    study: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> str:
    lines = ["# The literature's systems under one protocol", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", f"| system | {' | '.join(column.heading for column in columns)} |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    lines += [
        f"| {row['title']} | {' | '.join(cell_text(row, column) for column in columns)} |" for row in rows
    ]
    lines += ["", _NOT_COMPARABLE, ""]
    lines += [f"- {row['title']}: {row['protocol']}" for row in rows if row["kind"] == "published"]
    lines += [f"- no row for {name}: {why}" for name, why in failures.items()]
    if study:
        paper = study["published"]
        lines += ["", "## Learning rates", "", "| learning rate | epoch | D loss | G loss | gap |"]
        lines.append("| --- |" + " ---: |" * 4)
        for name, variant in study["variants"].items():
            lines += [
                f"| {name} | {row['epoch']:.4g} | {row['d_loss']:.3f} | {row['g_loss']:.3f} | {row['gap']:.3f} |"
                for row in variant["balance"]
            ]
        lines.append(
            f"| published † | {paper['epoch']} | {paper['d_loss']} | {paper['g_loss']} | {paper['gap']} |"
        )
        lines.append("")
        lines += [f"- {name}: {_equilibrium(variant)}" for name, variant in study["variants"].items()]
    return "\n".join(lines) + "\n"


def _equilibrium(variant: Mapping[str, Any]) -> str:
    epoch = variant["equilibrium_epoch"]
    if epoch is None:
        return f"the gap does not come to stay under {EQUILIBRIUM_GAP}"
    return f"the gap stays under {EQUILIBRIUM_GAP} from epoch {epoch:.4g} on"


def _pictures(out: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The sample grids that there are, with the film strips of what was trained, as data URIs."""
    return [
        {
            "title": str(row["title"]),
            "words": "ten images of each class",
            "uri": _data_uri(out / str(row["system"]) / "images/samples.png"),
            "film": _data_uri(out / str(row["system"]) / "gan/film_strip.png"),
        }
        for row in rows
        if row["kind"] != "published" and (out / str(row["system"]) / "images/samples.png").is_file()
    ]


def _data_uri(picture: Path) -> str:
    """A PNG file as a data URI; empty where there is none."""
    if not picture.is_file():
        return ""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _heat_maps(losses: Mapping[str, pd.DataFrame]) -> str | None:
    if not losses:
        return None
    picture = svg_file(svg_tree(loss_heat_maps(heat_map_tables(losses))))
    return f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}"
