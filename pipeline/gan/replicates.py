"""Train the generators of a budget: one, or several, for each replicate.

A replicate with a generator that collapses, or whose training diverges, is left out, as long as two others remain.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.augmentation.geometry import DIGITS, ImageFacts
from pipeline.errors import SynthGainError
from pipeline.gan.film import save_film_strip
from pipeline.gan.generators import generator_path, save_generator
from pipeline.gan.monitor import CollapsedTraining, Monitor, refuse_collapse
from pipeline.gan.training import GanRun, images_shown, train_gan
from pipeline.images import LabeledImages, images_sha256
from pipeline.params import Execution, Gan
from pipeline.runtime.device import configure, training_dtype, workers_for
from pipeline.runtime.outputs import write_text
from pipeline.runtime.parallel import parallel_map
from pipeline.runtime.progress import Advance, progress
from pipeline.runtime.seeds import derive_seed
from pipeline.runtime.store import (
    Key,
    find_result,
    give_up,
    keep_result,
    result_key,
    stored_result,
    this_store,
    unfinished,
)
from pipeline.study.subsets import real_subset, replicate_index, replicate_number
from pipeline.study.trained_gans import FEWEST_REPLICATES, Collapse, GanStudy, TrainedGans

_GENERATOR, _FILM_STRIP, _HISTORY = "generator.safetensors", "film_strip.png", "history.json"


@dataclass(frozen=True)
class GanJob:
    """A generator to train.

    Attributes:
        replicate, member: its place, both from 0.
        real: the replicate's real subset, and images of the pool with their pseudo-labels where the study says so.
        seed: of the training.
        folder: where generator and film strip go, and the history of all but the first.
        label: a name for messages.
        facts: what is true of the images.
    """

    replicate: int
    member: int
    real: LabeledImages
    seed: int
    folder: Path
    label: str
    facts: ImageFacts = DIGITS

    @property
    def provenance(self) -> dict[str, Any]:
        """What the generator's file says of where it comes from."""
        return {**self.real.provenance, "gan_seed": self.seed}

    def key(self, gan: Gan, device: torch.device, dtype: torch.dtype) -> Key:
        """Of its result in the store. The guard's patience decides only whether there is one."""
        recipe = {
            "gan": gan.model_dump(exclude={"collapse_patience_images"}),
            "provenance": self.provenance,
            "class_names": list(self.real.class_names),
            "facts": asdict(self.facts),
        }
        data = images_sha256(self.real)
        return result_key("gan", train_gan, recipe=recipe, data=data, device=device, dtype=dtype)


@dataclass(frozen=True)
class Outcome:
    """What became of a generator to train.

    Attributes:
        history: as of `train_gan`; empty if the training was given up.
        is_new: whether it was trained now.
        collapse: why the training was given up, if it was.
    """

    history: list[dict[str, float]]
    is_new: bool
    collapse: CollapsedTraining | None = None


def train_replicates(
    train: LabeledImages,
    study: GanStudy,
    gan: Gan,
    execution: Execution,
    *,
    folder: Path,
    facts: ImageFacts = DIGITS,
    beside: Callable[[LabeledImages], LabeledImages] | None = None,
) -> tuple[list[Mapping[str, float]], TrainedGans]:
    """Train and save the generators of every replicate below `folder`; none of a replicate that is left out.

    Args:
        train: the train split.
        study: which generators.
        gan: its section of the parameters.
        execution: where and in what to compute.
        folder: gets a folder for each replicate that is not left out.
        facts: what is true of the images.
        beside: gives a replicate's real subset together with what else its generators are trained on; None: nothing.

    Returns:
        The history of each replicate's first generator: a row per evaluation point, with its `replicate` (from 1);
        and which generators collapsed.

    Raises:
        SynthGainError: if so many collapse that fewer than two replicates remain. The last good state of every
            unfinished training is kept.
    """
    outcomes = train_generators(
        _jobs(train, study, folder=folder, facts=facts, beside=beside),
        count=study.trainings,
        gan=gan,
        execution=execution,
        label=f"GANs of {study.budget} real images",
        leave_out=study.replicates > 1,
    )
    rows: list[Mapping[str, float]] = []
    gans = TrainedGans(study.trainings)
    for job, outcome in outcomes:
        number = replicate_number(job.replicate)
        if outcome.collapse:
            collapse = Collapse(number, job.member + 1, outcome.collapse.reason)
            gans = TrainedGans(study.trainings, (*gans.collapsed, collapse))
            _refuse_too_few(gans, study)
        elif job.member == 0:
            rows += [{"replicate": number, **row} for row in outcome.history]
    for number in gans.left_out:
        shutil.rmtree(folder / str(replicate_index(number)), ignore_errors=True)
    return [row for row in rows if row["replicate"] not in gans.left_out], gans


def _refuse_too_few(gans: TrainedGans, study: GanStudy) -> None:
    if len(gans.remaining(study.replicates)) >= FEWEST_REPLICATES:
        return
    reasons = "; ".join(f"replicate {collapse.replicate}: {collapse.reason}" for collapse in gans.collapsed)
    raise SynthGainError(
        f"{study.budget} real images: {gans.words}, and a study goes on with {FEWEST_REPLICATES} replicates at least"
        f" ({reasons}); lower the learning rates, raise gan.penalty_weight, gan.augment_probability or"
        " study.replicates, or set gan.collapse_patience_images to 0 to train on after a collapse"
    )


def _jobs(
    train: LabeledImages,
    study: GanStudy,
    *,
    folder: Path,
    facts: ImageFacts,
    beside: Callable[[LabeledImages], LabeledImages] | None,
) -> Iterator[GanJob]:
    for replicate in range(study.replicates):
        real = real_subset(
            train, budget=study.budget, replicate=replicate, seed=study.seed, imbalance=study.imbalance
        )
        if beside is not None:
            real = beside(real)
        for member in range(study.generators_per_replicate):
            # Only further generators have their number in seed and names.
            number = (member,) if member else ()
            suffix = _suffix(member)
            yield GanJob(
                replicate=replicate,
                member=member,
                real=real,
                seed=derive_seed(study.seed, "gan", study.budget, replicate, *number),
                folder=folder / str(replicate),
                label=f"GAN {study.budget}{suffix}, replicate {replicate_number(replicate)} of {study.replicates}",
                facts=facts,
            )


def train_generators(
    jobs: Iterable[GanJob], *, count: int, gan: Gan, execution: Execution, label: str, leave_out: bool = False
) -> Iterator[tuple[GanJob, Outcome]]:
    """Train each generator, or find it in the store, and save it; yield each job with what became of it.

    On the CPU as many trainings run at once as there are threads, and share them: two trainings with a thread each
    are faster than two trainings in turn with both threads.

    Args:
        jobs: what to train.
        count: how many jobs there are.
        gan: its section of the parameters.
        execution: where and in what to compute.
        label: a name for the progress display.
        leave_out: report a training that collapses or diverges, and go on with the others.

    Raises:
        CollapsedTraining: if a training collapses or diverges, without `leave_out`. The last good state of every
            unfinished one is kept.
    """
    device = configure(execution)
    train = partial(
        _find_or_train,
        gan=gan,
        device=device,
        dtype=training_dtype(execution, device),
        store=this_store(),
        leave_out=leave_out,
    )
    workers = workers_for(execution, device, trainings=count)
    trained = collapsed = 0
    with progress(label, total=count * images_shown(gan), unit="images") as advance:
        for job, outcome in parallel_map(train, jobs, workers=workers, advance=advance):
            collapsed += outcome.collapse is not None
            trained += outcome.is_new and not outcome.collapse
            yield job, outcome
    given_up = f", {collapsed} collapsed" if collapsed else ""
    print(f"{label}: {trained} trained, {count - trained - collapsed} found finished{given_up}", flush=True)


def _find_or_train(
    job: GanJob,
    advance: Advance,
    *,
    gan: Gan,
    device: torch.device,
    dtype: torch.dtype,
    store: Path,
    leave_out: bool,
) -> Outcome:
    """A generator's history, and whether it was trained now; its files are in the job's folder then."""
    key = job.key(gan, device, dtype)
    found = find_result(store, key)
    shown = 0.0

    def advance_and_count(units: float, note: str = "") -> None:
        nonlocal shown
        shown += units
        advance(units, note)

    try:
        if found is None:
            with unfinished(store, key) as scratch:
                try:
                    run = train_gan(
                        job.real,
                        gan,
                        seed=job.seed,
                        device=device,
                        dtype=dtype,
                        facts=job.facts,
                        scratch=scratch / "state",  # which is there as soon as there is a state
                        label=job.label,
                        advance=advance_and_count,
                    )
                except CollapsedTraining as error:
                    give_up(scratch, error.reason)
                    raise
                _keep(run, job, store, key)
        result = found or stored_result(store, key)
        history: list[dict[str, float]] = json.loads((result / _HISTORY).read_text(encoding="utf-8"))
        if found and gan.collapse_patience_images:  # perhaps another one than it was trained with
            floor = Monitor(job.real, seed=job.seed, device=device).fidelity_floor
            for end in range(1, len(history) + 1):
                refuse_collapse(history[:end], gan, fidelity_floor=floor, label=job.label, kept=None)
    except CollapsedTraining as error:
        if not leave_out:
            raise
        print(f"{error.label}: {error.reason}; its replicate is left out", file=sys.stderr, flush=True)
        advance(images_shown(gan) - shown)
        return Outcome([], found is None, error.with_traceback(None))  # which would hold all of the training
    advance(images_shown(gan) - shown)
    job.folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(result / _GENERATOR, generator_path(job.folder, job.member))
    shutil.copyfile(result / _FILM_STRIP, job.folder / f"film_strip{_suffix(job.member)}.png")
    if job.member:  # the stage writes the histories of the first ones, in one table
        write_text(job.folder / f"history{_suffix(job.member)}.csv", history_csv(history))
    return Outcome(history, found is None)


def _keep(run: GanRun, job: GanJob, store: Path, key: Key) -> None:
    with keep_result(store, key) as folder:
        save_generator(
            folder / _GENERATOR, run.generator, class_names=job.real.class_names, provenance=job.provenance
        )
        save_film_strip(folder / _FILM_STRIP, run.film_strip)
        (folder / _HISTORY).write_text(json.dumps(run.history), encoding="utf-8")


def history_csv(history: Sequence[Mapping[str, float]]) -> str:
    """A training history as text, with six decimals: a line per evaluation point."""
    import pandas as pd  # half a second, which workers need not wait for

    return pd.DataFrame(history).round(6).to_csv(index=False, lineterminator="\n")


def _suffix(member: int) -> str:
    """What the names of a replicate's generators after the first end in: their number."""
    return f"_{member}" if member else ""
