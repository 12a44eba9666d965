"""The whole comparison: train, make images, read the test split once, write the page."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import SynthGainError
from pipeline.literature.keeping import is_kept
from pipeline.literature.learning_rates import variants, with_epochs
from pipeline.literature.page import write_comparison
from pipeline.literature.protocol import (
    BASELINES,
    Work,
    check_systems,
    evaluate_rows,
    gan_key,
    make_baseline_images,
    make_system_images,
    train_extractor,
    train_system,
)
from pipeline.literature.systems import LEARNING_RATES, OVERLAYS, SYSTEMS
from pipeline.params import Gan, load_params, overlay_params, parse_params
from pipeline.runtime.device import available_cores, configure, training_dtype


def run_literature(
    params_file: Path, *, prepared: Path, out: Path, total_images: int | None, only: tuple[str, ...]
) -> None:
    """Train what is asked for and not yet there; compare everything that is there.

    A system whose training diverges has no row, and its message stands below the table; the others go on.

    Args:
        params_file: the project's parameters.
        prepared: folder of the splits.
        out: folder of the results.
        total_images: the image budget of every system; None: gan.total_images.
        only: names of the systems to train (`learning_rates` is the study); empty: all.

    Raises:
        SynthGainError: for bad parameters, missing splits, unknown names, or if there is nothing to compare.
    """
    check_systems(only, [*(system.name for system in SYSTEMS), LEARNING_RATES])
    params = load_params(params_file)

    def gan_of(overlay: Path) -> Gan:
        """A system's section at the common budget, which must hold at least one of its steps."""
        values = overlay_params(params_file, overlay).model_dump()
        values["gan"]["total_images"] = total_images or params.gan.total_images
        return parse_params(values, where=f"{params_file} + {overlay.name}").gan

    gans = {system.name: gan_of(system.overlay) for system in SYSTEMS}
    study = gan_of(OVERLAYS / f"{LEARNING_RATES}.yaml")
    device = configure(params.execution)
    work = Work(out, prepared, params, device, training_dtype(params.execution, device))
    epochs = study.total_images / len(work.train)
    rates = {f"{LEARNING_RATES}/{name}": gan for name, gan in variants(study, epochs=epochs).items()}

    train_extractor(work)
    failures = {}
    for name, gan in {**gans, **rates}.items():
        if only and name.partition("/")[0] not in only:
            continue
        try:
            train_system(work, name, gan)
        except SynthGainError as error:
            failures[name] = str(error)
            print(f"{name} has no row: {error}", file=sys.stderr, flush=True)
    done = [system for system in SYSTEMS if _is_trained(work, system.name, gans[system.name])]
    for system in done:
        make_system_images(work, system.name, gans[system.name])
    for name in BASELINES:
        make_baseline_images(work, name)
    rows = evaluate_rows(work, done, list(BASELINES))
    losses = {
        name.partition("/")[2]: with_epochs(
            pd.read_csv(out / name / "gan/history.csv"), real_images=len(work.train)
        )
        for name, gan in rates.items()
        if _is_trained(work, name, gan)
    }
    write_comparison(
        out,
        rows=rows,
        failures=failures,
        learning_rates=losses,
        facts=_facts(work, study.total_images, epochs),
    )


def _is_trained(work: Work, name: str, gan: Gan) -> bool:
    return is_kept(work.out / name / "gan", gan_key(work, name, gan))


def _facts(work: Work, total_images: int, epochs: float) -> dict[str, Any]:
    machine = f"{platform.machine()}, {available_cores()} of {os.cpu_count()} cores, {work.device.type}"
    return {
        "data": f"{work.params.data.source}, {len(work.train)} train images",
        "images shown to each discriminator": f"{total_images} ({epochs:.2f} epochs)",
        "synthetic images": f"{work.params.generation.images_per_class} per class",
        "machine": f"{machine}, {str(work.dtype).removeprefix('torch.')}",
        "seed": work.params.seed,
    }
