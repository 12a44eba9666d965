"""Train the generators of a budget: one, or several, for each replicate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pipeline.checkpoints import code_sha256, file_sha256
from pipeline.gan.film import save_film_strip
from pipeline.gan.generators import generator_path, save_generator
from pipeline.gan.training import images_shown, train_gan
from pipeline.images import LabeledImages
from pipeline.params import Execution, Gan
from pipeline.runtime.device import configure, training_dtype, workers_for
from pipeline.runtime.outputs import write_text
from pipeline.runtime.parallel import parallel_map
from pipeline.runtime.progress import Advance, progress
from pipeline.runtime.seeds import derive_seed
from pipeline.study.subsets import Budget, Imbalance, real_subset


@dataclass(frozen=True)
class GanStudy:
    """The generators of a budget, and the real images that each of them is trained on.

    Attributes:
        budget: real images of a replicate, or "all".
        replicates: how many, each with a real subset of its own.
        generators_per_replicate: generators of other seeds on the same real subset.
        imbalance: the rare classes, as in `study.imbalance`.
        seed: of the whole study.
    """

    budget: Budget
    replicates: int
    generators_per_replicate: int
    imbalance: Imbalance
    seed: int

    @property
    def trainings(self) -> int:
        """How many generators there are."""
        return self.replicates * self.generators_per_replicate


@dataclass(frozen=True)
class GanJob:
    """A generator to train.

    Attributes:
        replicate, member: its place: of a replicate's generators the first is 0.
        real: the replicate's real subset.
        seed: of the training.
        folder: where generator and film strip go, and the history of all but the first.
        scratch: for the state of the unfinished training.
        label: a name for messages.
    """

    replicate: int
    member: int
    real: LabeledImages
    seed: int
    folder: Path
    scratch: Path
    label: str


def fingerprint(train: Path, study: GanStudy, gan: Gan, execution: Execution) -> dict[str, Any]:
    """All that the states of unfinished trainings depend on (JSON values), but for their real subsets."""
    device = configure(execution)
    workers = workers_for(execution, device, trainings=study.trainings)
    return {
        "gan": gan.model_dump(),
        "imbalance": dict(study.imbalance),
        "seed": study.seed,
        "train": file_sha256(train),
        "code": code_sha256("pipeline/gan/*.py", "pipeline/augmentation/classic.py"),
        "torch": torch.__version__,
        "computed": [device.type, str(training_dtype(execution, device)), workers.threads],
    }


def train_replicates(
    train: LabeledImages, study: GanStudy, gan: Gan, execution: Execution, *, folder: Path, scratch: Path
) -> pd.DataFrame:
    """Train and save the generators of every replicate below `folder`.

    Args:
        train: the train split.
        study: which generators.
        gan: its section of the parameters.
        execution: where and in what to compute.
        folder: gets a folder for each replicate.
        scratch: for the states of unfinished trainings.

    Returns:
        The history of each replicate's first generator: a row per evaluation point, with its `replicate`.

    Raises:
        SynthGainError: if a training diverges or collapses. The last good state of every unfinished one is kept.
    """
    histories = train_generators(
        _jobs(train, study, folder=folder, scratch=scratch),
        count=study.trainings,
        gan=gan,
        execution=execution,
        label=f"GANs of {study.budget} real images",
    )
    rows: list[Mapping[str, float]] = []
    for job, history in histories:
        if job.member == 0:
            rows += [{"replicate": job.replicate, **row} for row in history]
    return pd.DataFrame(rows)


def _jobs(train: LabeledImages, study: GanStudy, *, folder: Path, scratch: Path) -> Iterator[GanJob]:
    for replicate in range(study.replicates):
        real = real_subset(
            train, budget=study.budget, replicate=replicate, seed=study.seed, imbalance=study.imbalance
        )
        # A training does not go on from a state of other images, which another version of the code drew.
        subset = real.provenance["real_subset_sha256"][:12]
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
                scratch=scratch / f"{replicate}{suffix}_{subset}",
                label=f"GAN {study.budget}{suffix}, replicate {replicate + 1} of {study.replicates}",
            )


def train_generators(
    jobs: Iterable[GanJob], *, count: int, gan: Gan, execution: Execution, label: str
) -> Iterator[tuple[GanJob, list[dict[str, float]]]]:
    """Train and save each generator; yield each job with its training history (`train_gan`).

    On the CPU as many trainings run at once as there are threads, and share them: two trainings with a thread each
    are faster than two trainings in turn with both threads.

    Args:
        jobs: what to train.
        count: how many jobs there are.
        gan: its section of the parameters.
        execution: where and in what to compute.
        label: a name for the progress display.

    Raises:
        SynthGainError: if a training diverges or collapses. The last good state of every unfinished one is kept.
    """
    device = configure(execution)
    train = partial(_train, gan=gan, device=device, dtype=training_dtype(execution, device))
    workers = workers_for(execution, device, trainings=count)
    with progress(label, total=count * images_shown(gan), unit="images") as advance:
        yield from parallel_map(train, jobs, workers=workers, advance=advance)


def _train(
    job: GanJob, advance: Advance, *, gan: Gan, device: torch.device, dtype: torch.dtype
) -> list[dict[str, float]]:
    run = train_gan(
        job.real,
        gan,
        seed=job.seed,
        device=device,
        dtype=dtype,
        scratch=job.scratch,
        label=job.label,
        advance=advance,
    )
    job.folder.mkdir(parents=True, exist_ok=True)
    save_generator(
        generator_path(job.folder, job.member),
        run.generator,
        class_names=job.real.class_names,
        provenance={**job.real.provenance, "gan_seed": job.seed},
    )
    save_film_strip(job.folder / f"film_strip{_suffix(job.member)}.png", run.film_strip)
    if job.member:  # the stage writes the histories of the first ones, in one table
        write_text(job.folder / f"history{_suffix(job.member)}.csv", history_csv(pd.DataFrame(run.history)))
    return run.history


def history_csv(history: pd.DataFrame) -> str:
    """A training history as text, with six decimals."""
    return history.round(6).to_csv(index=False, lineterminator="\n")


def _suffix(member: int) -> str:
    """What the names of a replicate's generators after the first end in: their number."""
    return f"_{member}" if member else ""
