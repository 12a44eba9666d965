"""One system or all of them: train, measure, and add to the tables in the results folder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
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
    trained_extractor,
    trained_system,
)
from pipeline.literature.systems import NAMES, systems
from pipeline.maintenance.workspace import PROJECT
from pipeline.params import load_params
from pipeline.report.charts import loss_heat_maps
from pipeline.report.drawing import svg_file, svg_tree
from pipeline.runtime.commit import git
from pipeline.runtime.device import configure, training_dtype, workers_for
from pipeline.runtime.outputs import atomic_output, write_text
from pipeline.runtime.parallel import parallel_map
from pipeline.runtime.progress import Advance, progress

Length = Literal["paper", "equal"]
# The project's own GAN and the simple models: no papers, so they have the equal length alone.
OURS = "compact"
ROWS, LOSSES, PICTURES = "rows.csv", "losses.csv", "pictures"


def run_literature(
    params_file: Path, *, prepared: Path, out: Path, length: Length, only: Sequence[str]
) -> list[dict[str, Any]]:
    """Train and measure what is asked for, side by side; rows come in the order of the tables.

    A system whose training diverges has no row, nor one whose generator gives no images. Its message is printed, and
    the others go on.

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
    asked = _asked(work, length=length, only=only)
    commit = code_commit()
    rows, failures = [], []
    trained_extractor(work)  # which all of them are measured by
    workers = workers_for(params.execution, device, trainings=len(asked))
    compute = partial(_compute, replace(work))  # without the images, which each process reads for itself
    total = sum(_images_of_work(work, one) for one in asked)
    with progress("literature", total=total, unit="images") as advance:
        for one, computed in parallel_map(compute, asked, workers=workers, advance=advance):
            if isinstance(computed, str):
                failures.append(f"{one.name}: {computed}")
                print(f"{one.name} has no row: {computed}", file=sys.stderr, flush=True)
                continue
            write_row = _system_row if one.gan else _baseline_row
            rows.append({**write_row(work, one, computed, out=out), "commit": commit})
            _add_rows(out / ROWS, pd.DataFrame([rows[-1]]))
    if not rows:
        raise SynthGainError("no training came to its end: " + "; ".join(failures))
    return rows


@dataclass(frozen=True)
class Asked:
    """A system at a training length, or a simple model.

    Attributes:
        name, title: of the system or model.
        length: the training's.
        gan: its options; None: no GAN.
        paper: that it is from, 0 to 4; None: of none.
    """

    name: str
    title: str
    length: Length
    gan: PaperGan | None = None
    paper: int | None = None


def _asked(work: Work, *, length: Length, only: Sequence[str]) -> list[Asked]:
    """What is to be trained and measured, in the order of the tables."""
    real_images = len(work.train)
    asked = []
    for system in systems():
        if not only or system.group in only:
            images = work.params.gan.total_images if length == "equal" else system.epochs * real_images
            gan = system.gan(images, real_images)
            asked.append(Asked(system.name, system.title, length, gan, system.paper))
    if length == "equal":
        own = all_options(work.params.gan.model_copy(update={"collapse_patience_images": 0}))
        simple = [Asked(name, title, length) for name, title in BASELINES.items()]
        ours = [Asked(OURS, "compact (this project)", length, own), *simple]
        asked += [one for one in ours if not only or one.name in only]
    return asked


@dataclass(frozen=True)
class Computed:
    """What the store has of a system or simple model by now.

    Attributes:
        row: its numbers.
        pictured: the folder with their picture.
        trained: the folder of its training; None: there was none.
    """

    row: dict[str, Any]
    pictured: Path
    trained: Path | None = None


def _images_of_work(work: Work, one: Asked) -> int:
    """The images that its training shows, and those that the classifier is shown that measures it."""
    judge = work.params.classifier.of_budget("all")
    return (images_shown(one.gan) if one.gan else 0) + judge.steps * judge.batch_size


def _compute(work: Work, one: Asked, advance: Advance) -> Computed | str:
    """Train and measure, or find both in the store; a text says why there is nothing to measure."""
    left = float(_images_of_work(work, one))

    def advance_and_count(units: float, note: str = "") -> None:
        nonlocal left
        left -= units
        advance(units, f"{one.name} {note}")

    try:
        if one.gan is None:
            make = partial(baseline_images, work, one.name)
            found = measured(
                work, one.name, make, source=work.train_sha256, has_labels=True, advance=advance_and_count
            )
            return Computed(*found)
        trained = trained_system(work, one.name, one.gan, advance_and_count)
        generator = trained / "generator.safetensors"
        found = measured(
            work,
            one.name,
            partial(system_images, work, one.name, generator),
            source=file_sha256(generator),
            has_labels=one.gan.conditioning != "none",
            advance=advance_and_count,
        )
        return Computed(*found, trained)
    except SynthGainError as error:
        return str(error)
    finally:
        advance(left)


def _system_row(work: Work, one: Asked, computed: Computed, *, out: Path) -> dict[str, Any]:
    """The row of a system; its losses and pictures go into the results folder."""
    assert one.gan is not None and computed.trained is not None
    folder = computed.trained
    history = pd.DataFrame(json.loads((folder / "history.json").read_text(encoding="utf-8")))
    losses = losses_by_epoch(history, real_images=len(work.train)).round(4)
    _add_rows(
        out / LOSSES,
        losses.assign(system=one.name, length=one.length)[["system", "length", *losses.columns]],
    )
    pictures = out / PICTURES
    _copy(computed.pictured / "samples.png", pictures / f"{file_name(one.name)}_{one.length}.png")
    film = np.load(folder / "film.npy")
    with atomic_output(pictures / f"{file_name(one.name)}_{one.length}_film.png") as temporary:
        save_film(temporary, film, film_epochs(len(film) - 1))
    last = history.iloc[-1]
    accuracies = {f"d_accuracy_{kind}": float(last[f"d_accuracy_{kind}"]) for kind in ("real", "fake")}
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return {
        **({} if one.paper is None else {"paper": one.paper}),
        "system": one.name,
        "title": one.title,
        "kind": "system",
        "length": one.length,
        "epochs": round(images_shown(one.gan) / len(work.train), 2),
        "images_shown": images_shown(one.gan),
        **computed.row,
        **_last_losses(losses),
        **accuracies,
        **discriminator_scores(**accuracies),
        **facts,
        "images_per_second": round(float(history["images_per_second"].median())),
        "seed": work.params.seed,
        "computed_in": f"{work.device.type}, {str(work.dtype).removeprefix('torch.')}",
    }


def _baseline_row(work: Work, one: Asked, computed: Computed, *, out: Path) -> dict[str, Any]:
    _copy(computed.pictured / "samples.png", out / PICTURES / f"{one.name}_equal.png")
    return {
        "system": one.name,
        "title": one.title,
        "kind": "baseline",
        "length": "equal",
        **computed.row,
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
