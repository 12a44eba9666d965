"""Stage `train_fill`: synthetic images fill the gap of the classes that `study.imbalance` makes rare."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, ParamsFile, run


def main(
    budget: Budget,
    train: Annotated[Path, typer.Option(help="The real train split.")],
    synthetic: Annotated[
        Path, typer.Option(help="Folder of the synthetic images, <budget>/<replicate>.npz each.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the classifiers: <budget>/fill.safetensors.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train the classifiers whose rare classes are brought up to the common count with synthetic images.

    Without study.imbalance there is no such arm, and nothing to train.

    Example: python -m stages.train_fill --budget 3000 --train data/prepared/train.npz
    --synthetic data/synthetic --out data/classifier
    """
    from pipeline.arms import FILL_ARMS, declared_arms, parse_budget, real_subset
    from pipeline.classifier.cells import save_cells
    from pipeline.classifier.study import train_cells
    from pipeline.images import LabeledImages
    from pipeline.params import load_params

    params = load_params(params_file)
    size, seed = parse_budget(budget), params.seed
    real = LabeledImages.load(train)
    cells, arguments = train_cells(
        declared_arms(FILL_ARMS, params.study.arms),
        budget=size,
        synthetic_per_real=0,
        replicates=params.study.replicates,
        real_of=lambda replicate: real_subset(
            real, budget=size, replicate=replicate, seed=seed, imbalance=params.study.imbalance
        ),
        synthetic_of=lambda replicate: LabeledImages.load(synthetic / budget / f"{replicate}.npz"),
        classifier=params.classifier,
        seed=seed,
        execution=params.execution,
        what=f"rare classes filled, {budget} real",
    )
    save_cells(out / budget / "fill.safetensors", cells, arguments=arguments)


if __name__ == "__main__":
    run(main)
