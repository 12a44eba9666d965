"""Train the generators of a stage: one, or several, for each replicate of a budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from pipeline.gan.film import save_film_strip
from pipeline.gan.generators import generator_path, save_generator
from pipeline.gan.training import images_shown, train_gan
from pipeline.images import LabeledImages
from pipeline.params import Execution, Gan
from pipeline.runtime.device import configure, training_dtype, workers_for
from pipeline.runtime.outputs import write_text
from pipeline.runtime.parallel import parallel_map
from pipeline.runtime.progress import Advance, progress


@dataclass(frozen=True)
class GanJob:
    """A generator to train.

    Attributes:
        replicate, member: which one: of a replicate's generators the first is 0.
        real: the replicate's real subset.
        seed: of the training.
        folder: where generator and film strip go, and the history of all but the first.
        scratch: for the state of the unfinished training.
        what: a name for messages.
    """

    replicate: int
    member: int
    real: LabeledImages
    seed: int
    folder: Path
    scratch: Path
    what: str


def train_generators(
    jobs: Iterable[GanJob], *, count: int, gan: Gan, execution: Execution, what: str
) -> Iterator[tuple[GanJob, list[dict[str, float]]]]:
    """Train and save each generator; yield each job with its training history (`train_gan`).

    On the CPU as many train at once as there are threads, and share them: two on a thread each get more done than
    one after another on two.

    Args:
        jobs: what to train.
        count: how many these are.
        gan: its section of the parameters.
        execution: where and in what to compute.
        what: a name for the progress display.

    Raises:
        SynthGainError: if a training diverges or collapses. The last good state of every unfinished one is kept.
    """
    device = configure(execution)
    train = partial(_train, gan=gan, device=device, dtype=training_dtype(execution, device))
    workers = workers_for(execution, device, trainings=count)
    with progress(what, total=count * images_shown(gan), unit="images") as advance:
        yield from parallel_map(train, jobs, workers=workers, advance=advance)


def _train(
    job: GanJob, advance: Advance, *, gan: Gan, device: torch.device, dtype: torch.dtype
) -> list[dict[str, float]]:
    result = train_gan(
        job.real,
        gan,
        seed=job.seed,
        device=device,
        dtype=dtype,
        scratch=job.scratch,
        what=job.what,
        advance=advance,
    )
    job.folder.mkdir(parents=True, exist_ok=True)
    save_generator(
        generator_path(job.folder, job.member),
        result.generator,
        class_names=job.real.class_names,
        provenance={**job.real.provenance, "gan_seed": job.seed},
    )
    # What stands beside the first generator of a replicate is named after its number.
    suffix = f"_{job.member}" if job.member else ""
    save_film_strip(job.folder / f"film_strip{suffix}.png", result.film_strip)
    if job.member:
        table = pd.DataFrame(result.history).round(6)
        write_text(job.folder / f"history{suffix}.csv", table.to_csv(index=False, lineterminator="\n"))
    return result.history
