"""Stage `train_gan`: one conditional GAN per replicate of a budget, or a run of a generator of your own."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, Collapsed, ParamsFile, run


def main(
    budget: Budget,
    train: Annotated[Path, typer.Option(help="The real train split.")],
    labels: Annotated[Path, typer.Option(help="Folder of the pseudo-labels, <budget>.npz each.")],
    out: Annotated[Path, typer.Option(help="Folder for the generators, <budget>/<replicate> each.")],
    history: Annotated[Path, typer.Option(help="Folder for the training histories, <budget>.csv each.")],
    collapsed: Collapsed,
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train a conditional GAN, or several, on each replicate's own real subset, with its pool if the study says so.

    A replicate whose GAN collapses is left out, as long as two others remain. With generator.kind command or folder,
    the images of your own generator stand in the place of the GANs.

    Example: python -m stages.train_gan --budget 1000 --train data/prepared/train.npz --labels data/pseudo_labels
    --out data/gan --history data/metrics/gan --collapsed data/metrics/collapsed
    """
    from functools import partial

    from pipeline.params import load_params
    from pipeline.runtime.parallel import preload_workers

    params = load_params(params_file)
    if params.generator.kind == "gan":
        trainings = params.study.replicates * params.study.generators_per_replicate
        preload_workers("pipeline.gan.replicates", params.execution, trainings=trainings)

    from pipeline.augmentation.geometry import ImageFacts
    from pipeline.foreign.replicates import NO_HISTORY, generated_replicates
    from pipeline.gan.replicates import history_csv, train_replicates
    from pipeline.images import LabeledImages
    from pipeline.runtime.outputs import atomic_output, write_text
    from pipeline.study.pool import with_pseudo_labels
    from pipeline.study.subsets import parse_budget
    from pipeline.study.trained_gans import GanStudy, save_trained_gans

    study = GanStudy(
        budget=parse_budget(budget),
        replicates=params.study.replicates,
        generators_per_replicate=params.study.generators_per_replicate,
        imbalance=params.study.imbalance,
        seed=params.seed,
    )
    real = LabeledImages.load(train)
    with atomic_output(out / budget) as folder:
        if params.generator.kind == "gan":
            facts = ImageFacts(params.augmentation.fill, params.augmentation.flips)
            beside = partial(
                with_pseudo_labels,
                train=real,
                size=params.study.pool,
                seed=params.seed,
                pseudo_labels=labels / f"{budget}.npz",
            )
            rows, gans = train_replicates(
                real,
                study,
                params.gan,
                params.execution,
                folder=folder,
                facts=facts,
                beside=beside if params.study.generators_train_on == "pool" else None,
            )
            table = history_csv(rows)
        else:
            table = NO_HISTORY
            gans = generated_replicates(
                real,
                study,
                params.generator,
                images_per_class=params.generation.images_per_class,
                folder=folder,
            )
        write_text(history / f"{budget}.csv", table)
        save_trained_gans(collapsed / f"{budget}.json", gans)


if __name__ == "__main__":
    run(main)
