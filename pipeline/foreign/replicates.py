"""The images of somebody else's generator in the place of the GANs of a budget: a run for each replicate.

Each run sees the replicate's real subset and nothing else, and what it wrote is read at once. A replicate whose run
fails is left out, as one whose GAN collapses is, as long as two others remain.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.errors import SynthGainError
from pipeline.foreign.kept import ORIGIN, generated_file
from pipeline.foreign.program import ProgramFailed
from pipeline.foreign.reading import Pixels, Wanted, WrongImages, read_images
from pipeline.foreign.run import generated_images
from pipeline.images import LabeledImages, images_sha256, pixel_sha256
from pipeline.params import Generator
from pipeline.runtime.code import path_sha256
from pipeline.runtime.outputs import WORK
from pipeline.runtime.progress import progress
from pipeline.runtime.seeds import derive_seed
from pipeline.runtime.store import (
    Key,
    find_result,
    keep_result,
    result_key,
    stored_result,
    this_store,
    unfinished,
)
from pipeline.study.subsets import real_subset, replicate_number
from pipeline.study.trained_gans import FEWEST_REPLICATES, Collapse, GanStudy, TrainedGans

LOGS = WORK / "generator"
# In the place of the table of GAN trainings.
NO_HISTORY = "replicate,images_seen,d_loss,g_loss,d_accuracy,label_fidelity_1nn\n"


@dataclass(frozen=True)
class GeneratorJob:
    """The images of one run.

    Attributes:
        replicate, member: its place, both from 0.
        real: the replicate's real subset.
        wanted: what is to be made.
        seed: of the run.
        name: for messages.
    """

    replicate: int
    member: int
    real: LabeledImages
    wanted: Wanted
    seed: int
    name: str


def generated_replicates(
    train: LabeledImages, study: GanStudy, generator: Generator, *, images_per_class: int, folder: Path
) -> TrainedGans:
    """Make or read the images of every replicate, and save them below `folder`; none of one that is left out.

    Args:
        train: the train split.
        study: which replicates, and how many runs for each.
        generator: its section of the parameters; its kind is not `gan`.
        images_per_class: how many each run is to make.
        folder: gets a folder for each replicate that is not left out.

    Returns:
        Which runs failed.

    Raises:
        SynthGainError: if so many fail that fewer than two replicates remain, or if ready images are not what is
            needed. What other runs made is in the store.
    """
    code = path_sha256(Path(generator.code), key="generator.code") if generator.kind == "command" else None
    gans = TrainedGans(study.trainings, trained_on=generator.trained_on)
    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    with progress(f"generator, {study.budget} real images", study.trainings, "runs") as advance:
        for job in _jobs(train, study, images_per_class):
            try:
                if code is None:
                    pixels = _ready(job, Path(generator.folder), study)
                else:
                    pixels, is_new = _find_or_run(job, generator, code)
                    done += is_new
            except (ProgramFailed, WrongImages) as error:
                collapse = Collapse(replicate_number(job.replicate), job.member + 1, str(error))
                gans = TrainedGans(study.trainings, (*gans.collapsed, collapse), generator.trained_on)
                _refuse_too_few(gans, study)
                print(f"{job.name}: {error}; its replicate is left out", file=sys.stderr, flush=True)
                shutil.rmtree(folder / str(job.replicate), ignore_errors=True)
            else:
                if replicate_number(job.replicate) not in gans.left_out:
                    _save(
                        job, pixels, generator, code, generated_file(folder / str(job.replicate), job.member)
                    )
            advance(1)
    if code is not None:
        found = study.trainings - done - len(gans.collapsed)
        print(f"generator: {done} run, {found} found finished, {len(gans.collapsed)} failed", flush=True)
        if gans.collapsed:  # for DVC the stage is done
            print(f"to try the failed ones again: dvc repro --force train_gan@{study.budget}", flush=True)
    return gans


def _jobs(train: LabeledImages, study: GanStudy, images_per_class: int) -> Iterator[GeneratorJob]:
    shape = train.images.shape[1:]
    wanted = Wanted(train.class_names, images_per_class, (shape[0], shape[1], shape[2]))
    for replicate in range(study.replicates):
        real = real_subset(
            train, budget=study.budget, replicate=replicate, seed=study.seed, imbalance=study.imbalance
        )
        for member in range(study.generators_per_replicate):
            number = (member,) if member else ()
            yield GeneratorJob(
                replicate,
                member,
                real,
                wanted,
                derive_seed(study.seed, "gan", study.budget, replicate, *number),
                f"generator, {study.budget} real images, replicate {replicate_number(replicate)} of"
                f" {study.replicates}{f', run {member + 1}' if member else ''}",
            )


def _refuse_too_few(gans: TrainedGans, study: GanStudy) -> None:
    possible = len(gans.remaining(study.replicates))
    if possible >= FEWEST_REPLICATES:
        return
    first = gans.collapsed[0]
    raise SynthGainError(
        f"generator of {study.budget} real images: {gans.words}, and too few replicates remain"
        f" ({FEWEST_REPLICATES} are needed); replicate {first.replicate}: {first.reason}; what other runs made"
        " is kept: mend the program, and `dvc repro` goes on"
    )


def _ready(job: GeneratorJob, folder: Path, study: GanStudy) -> Pixels:
    """The ready images of a replicate; a fault in them is a fault of the input, which nobody leaves out."""
    place = folder / str(study.budget) / str(replicate_number(job.replicate))
    if not place.is_dir():
        raise SynthGainError(
            f"generator.folder: no folder {place}; put the images of replicate {replicate_number(job.replicate)}"
            " there (docs/own-generator.md)"
        )
    try:
        return read_images(place, job.wanted)
    except WrongImages as error:
        raise SynthGainError(f"generator.folder: {place}: {error}") from None


def _find_or_run(job: GeneratorJob, generator: Generator, code: str) -> tuple[Pixels, bool]:
    """The images of a run from the store, or from the program; and whether it ran now."""
    store, key = this_store(), _key(job, generator, code)
    found = find_result(store, key)
    if found is None:
        log = LOGS / f"{job.real.provenance['budget']}-{replicate_number(job.replicate)}-{job.member + 1}.log"
        with unfinished(store, key) as scratch:
            try:
                pixels = generated_images(
                    job.real,
                    job.wanted,
                    generator.command,
                    seed=job.seed,
                    seconds=60 * generator.minutes,
                    scratch=scratch,
                    log=log,
                )
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)  # it goes on from nothing
                raise
            with keep_result(store, key) as folder:
                np.save(folder / "pixels.npy", pixels)
    return np.load((found or stored_result(store, key)) / "pixels.npy"), found is None


def _key(job: GeneratorJob, generator: Generator, code: str) -> Key:
    """Of a run's images in the store. The time limit decides only whether there are any."""
    recipe = {
        "command": generator.command,
        "code": code,
        "seed": job.seed,
        "images_per_class": job.wanted.per_class,
        "class_names": list(job.real.class_names),
        "provenance": dict(job.real.provenance),
    }
    return result_key(
        "generator",
        generated_images,
        recipe=recipe,
        data=images_sha256(job.real),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


def _save(job: GeneratorJob, pixels: Pixels, generator: Generator, code: str | None, file: Path) -> None:
    """The images with their origin; copies of the real subset are counted and said, and the gate judges them."""
    known = set(pixel_sha256(job.real.images))
    copies = sum(digest in known for digest in pixel_sha256(pixels))
    if copies:
        print(
            f"{job.name}: {copies} of {len(pixels)} images are copies of its real images, pixel for pixel; the"
            " memorisation gate judges that",
            file=sys.stderr,
            flush=True,
        )
    origin: dict[str, Any] = {
        "kind": generator.kind,
        "name": generator.name,
        "author": generator.author,
        "licence": generator.licence,
        "trained_on": generator.trained_on,
        "copies_of_real_images": copies,
        **({"code_sha256": code} if code else {}),
    }
    classes = len(job.wanted.class_names)
    LabeledImages(
        pixels,
        np.arange(classes, dtype=np.int64).repeat(job.wanted.per_class),
        job.wanted.class_names,
        {
            **job.real.provenance,
            "kind": "synthetic",
            "seed": job.seed,
            "gan_seed": job.seed,
            "images_per_class": job.wanted.per_class,
            ORIGIN: origin,
        },
    ).save(file)
