"""Stage `train_gan`: one conditional GAN per replicate of a budget."""

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
    from pipeline.gan.replicates import GanStudy, fingerprint, history_csv, train_replicates
    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.runtime.outputs import atomic_output, scratch_folder, write_text
    from pipeline.study.subsets import parse_budget

    params = load_params(params_file)
    study = GanStudy(
        budget=parse_budget(budget),
        replicates=params.study.replicates,
        generators_per_replicate=params.study.generators_per_replicate,
        imbalance=params.study.imbalance,
        seed=params.seed,
    )
    state_key = fingerprint(train, study, params.gan, params.execution)
    real = LabeledImages.load(train)
    # Every training's state is kept until all are done: a killed stage goes on where it was.
    with (
        scratch_folder("gan", budget, fingerprint=state_key) as scratch,
        atomic_output(out / budget) as folder,
    ):
        rows = train_replicates(real, study, params.gan, params.execution, folder=folder, scratch=scratch)
        # Here, while the states are there: killed at it, or with a full disk, nothing has to be trained again.
        write_text(history / f"{budget}.csv", history_csv(rows))


if __name__ == "__main__":
    run(main)
