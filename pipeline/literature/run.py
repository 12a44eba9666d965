"""One system or all of them: train, measure, and add to the tables in the results folder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.gan.options import PaperGan, all_options
from pipeline.gan.training import images_shown
from pipeline.literature.losses import heat_map_tables, losses_by_epoch
from pipeline.literature.protocol import (
    BASELINES,
    Work,
    baseline_images,
    film_epochs,
    measured,
    save_film,
    system_images,
    trained_system,
)
from pipeline.literature.systems import NAMES, systems
from pipeline.maintenance.workspace import PROJECT
from pipeline.params import load_params
from pipeline.report.charts import loss_heat_maps
from pipeline.report.drawing import svg_file, svg_tree
from pipeline.runtime.commit import git
from pipeline.runtime.device import configure, training_dtype
from pipeline.runtime.outputs import atomic_output, write_text

Length = Literal["paper", "equal"]
# The project's own GAN and the simple models: no papers, so they have the equal length alone.
OURS = "compact"
ROWS, LOSSES, PICTURES = "rows.csv", "losses.csv", "pictures"


def run_literature(
    params_file: Path, *, prepared: Path, out: Path, length: Length, only: Sequence[str]
) -> list[dict[str, Any]]:
    """Train and measure what is asked for, one after another; each is in the tables as soon as it is finished.

    A system whose training diverges has no row; its message is printed, and the others go on.

    Args:
        params_file: the project's parameters.
        prepared: folder of the splits.
        out: gets `rows.csv`, `losses.csv` and `pictures/`; rows of other systems and lengths there stay.
        length: `paper`: the epochs of each paper; `equal`: gan.total_images of the parameters for all.
        only: names; empty: all systems, and with the equal length ours and the baselines too.

    Returns:
        The rows that were asked for.

    Raises:
        SynthGainError: for bad parameters, missing splits, unknown names, or if no training came to its end.
    """
    known = [*NAMES, OURS, *BASELINES]
    if unknown := [name for name in only if name not in known]:
        raise SynthGainError(f"--only: found {', '.join(unknown)}; allowed: {', '.join(known)}")
    if length == "paper" and (ours := [name for name in only if name not in NAMES]):
        raise SynthGainError(
            f"--only: found {', '.join(ours)} with --length paper, which no paper has; use --length equal"
        )
    for table in (ROWS, LOSSES):  # a damaged one is found now, not after hours
        read_table(out / table)
    params = load_params(params_file)
    device = configure(params.execution)
    work = Work(prepared, params, device, training_dtype(params.execution, device))
    commit = code_commit()
    rows, failures = [], []
    for system in systems():
        if not only or system.group in only:
            images = params.gan.total_images if length == "equal" else system.epochs * len(work.train)
            gan = system.gan(images, len(work.train))
            try:
                row = _system_row(work, system.name, system.title, gan, out=out, length=length)
            except SynthGainError as error:
                failures.append(f"{system.name}: {error}")
                print(f"{system.name} has no row: {error}", file=sys.stderr, flush=True)
                continue
            rows.append({"paper": system.paper, **row, "commit": commit})
            _add_rows(out / ROWS, pd.DataFrame([rows[-1]]))
    if length == "equal":
        if not only or OURS in only:
            own = all_options(params.gan.model_copy(update={"collapse_patience_images": 0}))
            row = _system_row(work, OURS, "compact (this project)", own, out=out, length=length)
            rows.append({**row, "commit": commit})
            _add_rows(out / ROWS, pd.DataFrame([rows[-1]]))
        for name, title in BASELINES.items():
            if not only or name in only:
                rows.append({**_baseline_row(work, name, title, out=out), "commit": commit})
                _add_rows(out / ROWS, pd.DataFrame([rows[-1]]))
    if not rows:
        raise SynthGainError("no training came to its end: " + "; ".join(failures))
    return rows


def _system_row(
    work: Work, name: str, title: str, gan: PaperGan, *, out: Path, length: Length
) -> dict[str, Any]:
    folder = trained_system(work, name, gan)
    generator = folder / "generator.safetensors"
    history = pd.DataFrame(json.loads((folder / "history.json").read_text(encoding="utf-8")))
    has_labels = gan.conditioning != "none"
    row, pictured = measured(
        work,
        name,
        lambda: system_images(work, name, generator),
        source=file_sha256(generator),
        has_labels=has_labels,
    )
    losses = losses_by_epoch(history, real_images=len(work.train)).round(4)
    _add_rows(
        out / LOSSES,
        losses.assign(system=name, length=length)[["system", "length", *losses.columns]],
    )
    pictures = out / PICTURES
    _copy(pictured / "samples.png", pictures / f"{file_name(name)}_{length}.png")
    film = np.load(folder / "film.npy")
    with atomic_output(pictures / f"{file_name(name)}_{length}_film.png") as temporary:
        save_film(temporary, film, film_epochs(len(film) - 1))
    last = history.iloc[-1]
    accuracies = {f"d_accuracy_{kind}": float(last[f"d_accuracy_{kind}"]) for kind in ("real", "fake")}
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return {
        "system": name,
        "title": title,
        "kind": "system",
        "length": length,
        "epochs": round(images_shown(gan) / len(work.train), 2),
        "images_shown": images_shown(gan),
        **row,
        **_last_losses(losses),
        **accuracies,
        **discriminator_scores(**accuracies),
        **facts,
        "images_per_second": round(float(history["images_per_second"].median())),
        "seed": work.params.seed,
        "computed_in": f"{work.device.type}, {str(work.dtype).removeprefix('torch.')}",
    }


def _baseline_row(work: Work, name: str, title: str, *, out: Path) -> dict[str, Any]:
    row, pictured = measured(
        work, name, lambda: baseline_images(work, name), source=work.train_sha256, has_labels=True
    )
    _copy(pictured / "samples.png", out / PICTURES / f"{name}_equal.png")
    return {
        "system": name,
        "title": title,
        "kind": "baseline",
        "length": "equal",
        **row,
        "seed": work.params.seed,
    }


def draw_learning_rates(results: Path) -> None:
    """A heat map of both losses over Paper 3's learning rates, at each length that was run."""
    losses = read_table(results / LOSSES)
    for length in losses["length"].unique():
        tables = heat_map_tables(losses[losses["length"] == length])
        if any(len(table) for table in tables.values()):
            with atomic_output(results / PICTURES / f"learning_rates_{length}.svg") as temporary:
                temporary.write_bytes(svg_file(svg_tree(loss_heat_maps(tables))))


def _last_losses(losses: pd.DataFrame) -> dict[str, float]:
    return {name: float(losses.iloc[-1][name]) for name in ("d_loss_sum", "d_loss_mean", "g_loss")}


def discriminator_scores(*, d_accuracy_real: float, d_accuracy_fake: float) -> dict[str, float]:
    """Balanced accuracy, and F1 with the real images as positives, of a discriminator that saw as many of each."""
    wrong = (1 - d_accuracy_real) + (1 - d_accuracy_fake)
    return {
        "d_accuracy": (d_accuracy_real + d_accuracy_fake) / 2,
        "d_f1": 2 * d_accuracy_real / (2 * d_accuracy_real + wrong) if d_accuracy_real + wrong else 0.0,
    }


def file_name(system: str) -> str:
    """A system's name as part of a file's."""
    return system.replace("/", "_")


def code_commit() -> str:
    """The project's commit, with `+` where files differ from it; `unknown` outside of Git."""
    commit = git(PROJECT, "rev-parse", "HEAD")
    changed = git(PROJECT, "status", "--porcelain", "--untracked-files=no")
    return "unknown" if commit is None or changed is None else commit + ("+" if changed else "")


def read_table(file: Path) -> pd.DataFrame:
    """A table of the results folder; empty where there is none.

    Raises:
        SynthGainError: if it is damaged.
    """
    if not file.is_file():
        return pd.DataFrame({"system": [], "length": []})
    try:
        table = pd.read_csv(file, dtype={"system": str, "length": str, "commit": str})
        table[["system", "length"]]
    except (ValueError, KeyError, OSError) as error:
        raise SynthGainError(
            f"{file}: not a table of this command ({' '.join(str(error).split())}); remove it, and the same command"
            " writes it anew from what is finished"
        ) from None
    return table


def _add_rows(file: Path, new: pd.DataFrame) -> None:
    """Write these rows into a table, in place of those of the same systems and lengths."""
    table, by = read_table(file), ["system", "length"]
    replaced = pd.MultiIndex.from_frame(table[by]).isin(pd.MultiIndex.from_frame(new[by]))
    kept = table[~replaced]
    whole = new if kept.empty else pd.concat([kept, new], ignore_index=True)
    write_text(file, whole.round(6).to_csv(index=False, lineterminator="\n"))


def _copy(source: Path, target: Path) -> None:
    with atomic_output(target) as temporary:
        shutil.copyfile(source, temporary)
