"""The page on the papers: every published number beside ours, made from tables alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from pipeline.literature.losses import (
    EQUILIBRIUM_GAP,
    WINDOWS_OF_20,
    WINDOWS_OF_50,
    equilibrium,
    window_means,
)
from pipeline.literature.protocol import film_epochs
from pipeline.literature.run import LOSSES, PICTURES, ROWS, file_name, read_table
from pipeline.literature.systems import BASE, System, systems
from pipeline.params import read_yaml
from pipeline.runtime.outputs import write_text

_HERE = Path(__file__).parent
NOT_RUN = "not run yet"
_LENGTHS = ("paper", "equal")

# Field of a row → how it is written.
_FORMS = {
    "fid": "{:.2f} (own network)",
    "inception_score": "{:.2f} (own network)",
    "epochs": "{:.4g}",
    "d_accuracy": "{:.2%}",
    "d_accuracy_real": "{:.2%}",
    "d_accuracy_fake": "{:.2%}",
    "d_f1": "{:.2f}",
    "recognisable_of_100": "{:.0f}",
    "generator_weights": "{:,.0f}",
}
_MEASURES = (
    ("epochs", "epochs", "{:.4g}"),
    ("fid", "FID ↓", "{:.2f}"),
    ("fid_floor", "its floor", "{:.2f}"),
    ("inception_score", "IS ↑", "{:.2f}"),
    ("recall", "recall ↑", "{:.3f}"),
    ("coverage", "coverage ↑", "{:.3f}"),
    ("recognisable", "recognisable, % ↑", "{:.1%}"),
    ("largest_class_share", "commonest digit, %", "{:.1%}"),
    ("cas_test", "CAS test, % ↑", "{:.2%}"),
    ("parzen_nats", "Parzen, nats", "{:.1f}"),
    ("d_loss_sum", "D loss", "{:.3f}"),
    ("g_loss", "G loss", "{:.3f}"),
    ("commit", "commit", "{:.7}"),
)


def published() -> pd.DataFrame:
    """Every published number: `paper, place, row, column, printed` as text, and `system, field` of ours beside it."""
    return pd.read_csv(_HERE / "published.csv", dtype=str, keep_default_na=False)


def write_page(page: Path, *, results: Path, pictures: str = PICTURES) -> None:
    """Write the page from `rows.csv` and `losses.csv` of a results folder; `pictures` is their folder, from the page.

    Raises:
        SynthGainError: if a table or an overlay is damaged.
    """
    write_text(
        page,
        page_text(read_table(results / ROWS), read_table(results / LOSSES), results / PICTURES, pictures),
    )


def page_text(rows: pd.DataFrame, losses: pd.DataFrame, folder: Path, pictures: str) -> str:
    """The whole page; what has no row stands there as not run yet."""
    known = {(row["system"], row["length"]): _present(row) for row in rows.to_dict("records")}
    papers = yaml.safe_load((_HERE / "papers.yaml").read_text(encoding="utf-8"))
    made = systems()
    lines = [(_HERE / "literature_head.md").read_text(encoding="utf-8").rstrip(), ""]
    lines += ["## All systems", "", *_all_systems(made, known), ""]
    for paper in papers:
        own: list[System] = [system for system in made if system.paper == paper["number"]]
        lines += [f"## Paper {paper['number']}: {paper['title']}", "", paper["source"] + ".", ""]
        lines += [f"**Reproduced?** {reproduced(paper['number'], known, losses)}", ""]
        if paper["number"] == 3:
            lines += [*_windows(own, losses), *_heat_maps(folder, pictures)]
        lines += _beside(paper["number"], known)
        for system in own if paper["number"] != 3 else own[-1:]:
            lines += _picture(system, folder, pictures)
        lines += ["**How the protocols differ.**", "", *(f"- {text}" for text in paper["differences"]), ""]
        lines += [
            "**Contradictions, and the reading taken.**",
            "",
            *(f"- {text}" for text in paper["readings"]),
            "",
        ]
        lines += _open_points(own)
    lines += _base_table()
    return "\n".join(lines).rstrip() + "\n"


def _present(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in row.items() if not pd.isna(value)}


def _all_systems(made: Sequence[System], known: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    """A row per system and length, ours and the baselines below."""
    heads = [heading for _, heading, _ in _MEASURES]
    lines = [f"| system | length | {' | '.join(heads)} |", "| --- | --- |" + " ---: |" * len(heads)]
    entries = [
        (system.name, f"{system.title} ({system.paper})", length) for system in made for length in _LENGTHS
    ]
    entries += [
        (name, str(row["title"]), length)
        for (name, length), row in known.items()
        if name not in {system.name for system in made}
    ]
    for name, title, length in entries:
        if row := known.get((name, length)):
            cells = [form.format(row[key]) if key in row else "" for key, _, form in _MEASURES]
            lines.append(f"| {title} | {length} | {' | '.join(cells)} |")
    lines.append("")
    for length in _LENGTHS:
        missing = [title for name, title, of in entries if of == length and (name, length) not in known]
        if missing:
            lines.append(f"- {NOT_RUN.capitalize()} at the {length} length: {', '.join(missing)}.")
    return lines


def _beside(number: int, known: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    """Every published number of a paper beside ours at both lengths; Paper 3's windows have a table of their own."""
    table = published()
    table = table[(table["paper"] == str(number)) & ~table["field"].isin(["d_loss", "g_loss"])]
    if table.empty:
        return []
    lines = [
        "| where | what | published | ours, paper's length | ours, equal length |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for entry in table.to_dict("records"):
        ours = [_ours(entry, length, known) for length in _LENGTHS]
        lines.append(
            f"| {entry['place']} | {entry['row']}: {entry['column']} | {entry['printed']} | {' | '.join(ours)} |"
        )
    return [*lines, ""]


def _ours(entry: Mapping[Any, str], length: str, known: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    if not entry["system"]:
        return "not measured"
    row, field = known.get((entry["system"], length)), entry["field"]
    if row is None:
        return NOT_RUN
    if field == "losses":
        return f"D {row['d_loss_sum']:.2f} (sum), {row['d_loss_mean']:.2f} (mean), G {row['g_loss']:.2f}"
    if field == "gap":
        gaps = [abs(row[f"d_loss_{kind}"] - row["g_loss"]) for kind in ("sum", "mean")]
        return f"{gaps[0]:.2f} (sum), {gaps[1]:.2f} (mean)"
    if field == "parzen_nats":
        return f"{row[field]:.1f} ± {row['parzen_standard_error']:.1f}"
    return _FORMS[field].format(row[field]) if field in row else ""


def _windows(own: Sequence[System], losses: pd.DataFrame) -> list[str]:
    """Paper 3's Tables 1 to 3, window by window: published, and ours as sum and as mean."""
    lines = []
    for heading, names, windows in (
        (
            "Tables 1 and 2: learning rates, 20 epochs",
            [s for s in own if s.group == "learning_rates"],
            WINDOWS_OF_20,
        ),
        ("Table 3: 50 epochs", [s for s in own if s.group == "balance"], WINDOWS_OF_50),
    ):
        lines += [
            f"### {heading}",
            "",
            f"| | loss | {' | '.join(windows)} |",
            "| --- | --- |" + " ---: |" * len(windows),
        ]
        for system in names:
            printed = published_windows(system.name)
            for player in ("d_loss", "g_loss"):
                cells = " | ".join(printed[player])
                lines.append(f"| {system.title} | {player[0].upper()}, published | {cells} |")
            means = window_means(_losses_of(losses, system.name), windows)
            for column, name in (
                ("d_loss_sum", "D, ours (sum)"),
                ("d_loss_mean", "D, ours (mean)"),
                ("g_loss", "G, ours"),
            ):
                cells = " | ".join(
                    f"{float(means[column][window]):.2f}" if window in means.index else NOT_RUN
                    for window in windows
                )
                lines.append(f"| {system.title} | {name} | {cells} |")
        lines.append("")
    return lines


def published_windows(system: str) -> dict[str, list[str]]:
    """The printed losses of a system of Paper 3, in the order of the windows, by `d_loss` and `g_loss`."""
    table = published()
    own = table[(table["system"] == system) & table["field"].isin(["d_loss", "g_loss"])]
    return {player: own[own["field"] == player]["printed"].tolist() for player in ("d_loss", "g_loss")}


def _losses_of(losses: pd.DataFrame, name: str) -> pd.DataFrame:
    """A system's losses by epoch at its paper's length; no rows if it was not run."""
    columns = ["epoch", "d_loss_sum", "d_loss_mean", "g_loss"]
    own = losses[(losses["system"] == name) & (losses["length"] == "paper")]
    return own.reindex(columns=columns).astype(float)


def reproduced(number: int, known: Mapping[tuple[str, str], Mapping[str, Any]], losses: pd.DataFrame) -> str:
    """One sentence on a paper, from our rows at its own length."""
    rows = {name: row for (name, length), row in known.items() if length == "paper"}
    if number == 0 and "minimal" in rows:
        row = rows["minimal"]
        nats, error = row["parzen_nats"], row["parzen_standard_error"]
        near = abs(nats - 240) <= 2 * (2.5 + error)
        real = known.get(("real", "equal"))
        beside = f" (as many real train images: {real['parzen_nats']:.0f})" if real else ""
        return (
            f'The {row["generator_weights"]:,.0f} weights are; the 240 ± 2.5 nats of "Adversarial nets" are'
            f" {'too' if near else 'not'}: this generator has {nats:.0f} ± {error:.0f}{beside};"
            f" D judges {row['d_accuracy']:.0%} of images rightly at the end, where the paper says that it cannot tell."
        )
    if number == 1 and "mlp" in rows:
        row = rows["mlp"]
        higher = row["d_loss_sum"] > row["g_loss"]
        return (
            f"Of 100 images {row['recognisable_of_100']:.0f} are recognisable here, 95 there"
            f" (of real test images {row['recognisable_real']:.0%}); that D's loss ends above G's is"
            f" {'reproduced' if higher else 'not reproduced'} ({row['d_loss_sum']:.2f} and {row['g_loss']:.2f})."
        )
    if number == 2:
        order = ("proposed", "wgan", "dcgan", "vanilla")
        ours = {name: rows[name]["fid"] for name in order if name in rows}
        if ours:
            found = [name for name, _ in sorted(ours.items(), key=lambda item: item[1])]
            theirs = [name for name in order if name in rows]
            missing = [name for name in order if name not in rows]
            verdict = (
                "the order of the table's FIDs is reproduced"
                if found == theirs
                else f"by FID the order is {', '.join(found)}, theirs is {', '.join(theirs)}"
            )
            if len(found) == 1:
                verdict = f"of the four rows only {found[0]} has been run, so there is no order to compare"
            rest = f" Not run yet: {', '.join(missing)}." if missing and len(found) > 1 else ""
            return f"In part: {verdict}; the values themselves cannot be compared.{rest}"
    if number == 3:
        means = window_means(_losses_of(losses, "balance"), WINDOWS_OF_50)
        if len(means):
            balance = {
                kind: equilibrium(means[f"d_loss_{kind}"], means["g_loss"]) for kind in ("sum", "mean")
            }
            said = [
                f"with D's loss as {kind} {f'it comes in window {window}' if window else 'it does not come'}"
                for kind, window in balance.items()
            ]
            return f"A gap that stays at {EQUILIBRIUM_GAP} or below: {' and '.join(said)}."
    if number == 4 and "noisy_dcgan" in rows:
        row = rows["noisy_dcgan"]
        return (
            "There is no number to reproduce: the strip below is the comparison; a classifier is sure of"
            f" {row['recognisable']:.0%} of our images (of real ones {row['recognisable_real']:.0%})."
        )
    return f"At the paper's length: {NOT_RUN}."


def _picture(system: System, folder: Path, pictures: str) -> list[str]:
    """Samples and film strip at the paper's length, or at the equal one, where they are there."""
    for length in _LENGTHS:
        name = f"{file_name(system.name)}_{length}"
        if (folder / f"{name}.png").is_file():
            words = "the paper's" if length == "paper" else "the equal"
            epochs = ", ".join(map(str, film_epochs(system.epochs)))
            strip = f"Twelve latents over training{f' (epochs {epochs})' if length == 'paper' else ''}"
            return [
                f"**{system.title}**, a hundred images at {words} length, and twelve latents over training"
                f"{f' (from above: epochs {epochs})' if length == 'paper' else ''}:",
                "",
                f"![A hundred images of {system.title}]({pictures}/{name}.png)",
                f"![{strip} of {system.title}]({pictures}/{name}_film.png)",
                "",
            ]
    return []


def _heat_maps(folder: Path, pictures: str) -> list[str]:
    """Paper 3's learning rates as a picture, at the paper's length."""
    name = "learning_rates_paper.svg"
    words = "Heat maps of both losses: a row per learning rate, a column per epoch"
    return [f"![{words}]({pictures}/{name})", ""] if (folder / name).is_file() else []


def _open_points(own: Sequence[System]) -> list[str]:
    """What each overlay adds where its paper is silent, with the reason; one table a paper."""
    base = _base_entries()
    lines = [
        "**What the paper leaves open**, beside [what they all leave open](#what-all-papers-leave-open):",
        "",
    ]
    lines += ["| system | key | ours | why |", "| --- | --- | --- | --- |"]
    seen = set()
    for system in own:
        for key, (value, why) in system.ours.items():
            if (system.group, key) not in seen and base.get(key) != (value, why):
                seen.add((system.group, key))
                lines.append(f"| {system.group} | {key} | {_value(value)} | {why} |")
    return [*lines, ""]


def _base_entries() -> dict[str, tuple[Any, str]]:
    return {key: (entry["value"], entry["why"]) for key, entry in read_yaml(BASE)["ours"].items()}


def _base_table() -> list[str]:
    lines = [
        "## What all papers leave open",
        "",
        "In the overlays of a paper that states one of these, its value stands instead.",
        "",
    ]
    lines += ["| what | ours | why |", "| --- | --- | --- |"]
    return [
        *lines,
        *(f"| {key} | {_value(value)} | {why} |" for key, (value, why) in _base_entries().items()),
        "",
    ]


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
