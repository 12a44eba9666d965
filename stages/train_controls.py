"""Stage `train_controls`: other images in the place of the synthetic ones; no change of the GAN retrains them."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, ParamsFile, Ratio, run


def main(
    budget: Budget,
    synthetic_per_real: Ratio,
    train: Annotated[Path, typer.Option(help="The real train split.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the classifiers: <budget>/controls/<ratio>.safetensors.")
    ],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train the classifiers that see as many repeated, or as many other, real images as others see synthetic ones.

    Example: python -m stages.train_controls --budget 1000 --synthetic-per-real 0.5
    --train data/prepared/train.npz --out data/classifier
    """
    from pipeline.arms import (
        CONTROL_ARMS,
        declared_arms,
        extra_real_images,
        parse_budget,
        parse_ratio,
        real_subset,
    )
    from pipeline.classifier.cells import save_cells
    from pipeline.classifier.study import train_cells
    from pipeline.images import LabeledImages
    from pipeline.params import load_params

    params = load_params(params_file)
    real = LabeledImages.load(train)
    size, ratio, seed = parse_budget(budget), parse_ratio(synthetic_per_real), params.seed
    cells, arguments = train_cells(
        declared_arms(CONTROL_ARMS, params.study.arms) if ratio > 0 else (),
        budget=size,
        synthetic_per_real=float(ratio),
        replicates=params.study.replicates,
        real_of=lambda replicate: real_subset(
            real, budget=size, replicate=replicate, seed=seed, imbalance=params.study.imbalance
        ),
        extra_of=lambda replicate: extra_real_images(
            real,
            budget=size,
            replicate=replicate,
            images_per_real=float(ratio),
            seed=seed,
            imbalance=params.study.imbalance,
        ),
        classifier=params.classifier,
        seed=seed,
        execution=params.execution,
        what=f"{ratio} others per real, {budget} real",
    )
    save_cells(out / budget / "controls" / f"{ratio}.safetensors", cells, arguments=arguments)


if __name__ == "__main__":
    run(main)
