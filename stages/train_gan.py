"""Stage `train_gan`: one conditional GAN per replicate of a budget."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, ParamsFile, run


def main(
    budget: Budget,
    train: Annotated[Path, typer.Option(help="The real train split.")],
    out: Annotated[Path, typer.Option(help="Folder for the generators, <budget>/<replicate> each.")],
    history: Annotated[Path, typer.Option(help="Folder for the training histories, <budget>.csv each.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train a conditional GAN, or several, on each replicate's own real subset.

    Example: python -m stages.train_gan --budget 1000 --train data/prepared/train.npz --out data/gan
    --history data/metrics/gan
    """
    import pandas as pd
    import torch

    from pipeline.checkpoints import code_sha256, file_sha256
    from pipeline.gan.replicates import GanJob, train_generators
    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.runtime.device import configure, training_dtype, workers_for
    from pipeline.runtime.outputs import atomic_output, scratch_folder, write_text
    from pipeline.runtime.seeds import derive_seed
    from pipeline.study.subsets import parse_budget, real_subset

    params = load_params(params_file)
    replicates, members = params.study.replicates, params.study.generators_per_replicate
    device = configure(params.execution)
    workers = workers_for(params.execution, device, trainings=replicates * members)
    fingerprint = {
        "gan": params.gan.model_dump(),
        "imbalance": params.study.imbalance,
        "seed": params.seed,
        "train": file_sha256(train),
        "code": code_sha256("pipeline/gan/*.py", "pipeline/augmentation/classic.py"),
        "torch": torch.__version__,
        "computed": [device.type, str(training_dtype(params.execution, device)), workers.threads],
    }
    real = LabeledImages.load(train)

    def jobs(scratch: Path, folder: Path) -> Iterator[GanJob]:
        for replicate in range(replicates):
            subset = real_subset(
                real,
                budget=parse_budget(budget),
                replicate=replicate,
                seed=params.seed,
                imbalance=params.study.imbalance,
            )
            # A state of other images, drawn by another version of the code, is not gone on from.
            drawn = subset.provenance["real_subset_sha256"][:12]
            for member in range(members):
                # What stands beside the first generator of a replicate is named after its number.
                number = (member,) if member else ()
                suffix = "".join(f"_{one}" for one in number)
                yield GanJob(
                    replicate=replicate,
                    member=member,
                    real=subset,
                    seed=derive_seed(params.seed, "gan", budget, replicate, *number),
                    folder=folder / str(replicate),
                    scratch=scratch / f"{replicate}{suffix}_{drawn}",
                    what=f"GAN {budget}{suffix}, replicate {replicate + 1} of {replicates}",
                )

    rows = []
    # Every training's state is kept until all are done: a killed stage goes on where it was.
    with (
        scratch_folder("gan", budget, fingerprint=fingerprint) as scratch,
        atomic_output(out / budget) as folder,
    ):
        for job, steps in train_generators(
            jobs(scratch, folder),
            count=replicates * members,
            gan=params.gan,
            execution=params.execution,
            what=f"GANs of {budget} real images",
        ):
            if job.member == 0:
                rows += [{"replicate": job.replicate, **row} for row in steps]
        # Here, while the states are there: killed at it, or with a full disk, nothing has to be trained again.
        write_text(
            history / f"{budget}.csv", pd.DataFrame(rows).round(6).to_csv(index=False, lineterminator="\n")
        )


if __name__ == "__main__":
    run(main)
