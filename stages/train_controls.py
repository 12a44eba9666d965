"""Stage `train_controls`: other images in the place of the synthetic ones; no change of the GAN retrains them."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    budget: Annotated[str, typer.Option(help="Real images per replicate, one of study.real_images.")],
    synthetic_per_real: Annotated[float, typer.Option(help="Other images per real image.", min=0)],
    train: Annotated[Path, typer.Option(help="The real train split.")],
    out: Annotated[Path, typer.Option(help="File for the trained classifiers.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train the classifiers that see as many repeated, or as many other, real images as others see synthetic ones.

    Example: python -m stages.train_controls --budget 1000 --synthetic-per-real 0.5
    --train data/prepared/train.npz --out data/classifier/1000/controls/0.5.safetensors
    """
    from pipeline.arms import CONTROL_ARMS, declared_arms, extra_real_images, parse_budget, real_subset
    from pipeline.classifier.cells import save_cells
    from pipeline.classifier.study import train_cells
    from pipeline.images import LabeledImages
    from pipeline.params import load_params

    params = load_params(params_file)
    real = LabeledImages.load(train)
    size, seed = parse_budget(budget), params.seed
    cells, arguments = train_cells(
        declared_arms(CONTROL_ARMS, params.study.arms) if synthetic_per_real > 0 else (),
        budget=size,
        synthetic_per_real=synthetic_per_real,
        replicates=params.study.replicates,
        real_of=lambda replicate: real_subset(
            real, budget=size, replicate=replicate, seed=seed, imbalance=params.study.imbalance
        ),
        extra_of=lambda replicate: extra_real_images(
            real,
            budget=size,
            replicate=replicate,
            images_per_real=synthetic_per_real,
            seed=seed,
            imbalance=params.study.imbalance,
        ),
        classifier=params.classifier,
        seed=seed,
        execution=params.execution,
        what=f"{synthetic_per_real} others per real, {budget} real",
    )
    save_cells(out, cells, arguments=arguments)


if __name__ == "__main__":
    run(main)
