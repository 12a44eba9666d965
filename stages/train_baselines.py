"""Stage `train_baselines`: the arms on the real subset alone: no change of GAN or ratios retrains them."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, ParamsFile, run


def main(
    budget: Budget,
    train: Annotated[Path, typer.Option(help="The real train split.")],
    out: Annotated[Path, typer.Option(help="Folder of the classifiers: <budget>/baselines.safetensors.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train the classifiers that see real images only: plain, with classic augmentation, with rare classes repeated.

    Example: python -m stages.train_baselines --budget 1000 --train data/prepared/train.npz
    --out data/classifier
    """
    from pipeline.arms import (
        BASELINE_ARMS,
        REMEDY_ARMS,
        declared_arms,
        extra_real_images,
        parse_budget,
        real_subset,
    )
    from pipeline.classifier.cells import save_cells
    from pipeline.classifier.study import train_cells
    from pipeline.images import LabeledImages
    from pipeline.params import load_params

    params = load_params(params_file)
    real = LabeledImages.load(train)
    size, seed = parse_budget(budget), params.seed
    cells, arguments = train_cells(
        declared_arms((*BASELINE_ARMS, *REMEDY_ARMS), params.study.arms),
        budget=size,
        synthetic_per_real=0,
        replicates=params.study.replicates,
        real_of=lambda replicate: real_subset(
            real, budget=size, replicate=replicate, seed=seed, imbalance=params.study.imbalance
        ),
        extra_of=lambda replicate: extra_real_images(
            real,
            budget=size,
            replicate=replicate,
            images_per_real=None,
            seed=seed,
            imbalance=params.study.imbalance,
        ),
        classifier=params.classifier,
        seed=seed,
        execution=params.execution,
        what=f"baselines, {budget} real",
    )
    save_cells(out / budget / "baselines.safetensors", cells, arguments=arguments)


if __name__ == "__main__":
    run(main)
