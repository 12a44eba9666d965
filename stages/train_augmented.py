"""Stage `train_augmented`: the arms with synthetic images at one ratio."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    budget: Annotated[str, typer.Option(help="Real images per replicate, one of study.real_images.")],
    synthetic_per_real: Annotated[float, typer.Option(help="Synthetic images per real image.", min=0)],
    train: Annotated[Path, typer.Option(help="The real train split.")],
    synthetic: Annotated[Path, typer.Option(help="Folder of the budget's synthetic images.")],
    scores: Annotated[Path, typer.Option(help="File of the label scores of these images.")],
    out: Annotated[Path, typer.Option(help="File for the trained classifiers.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train the classifiers that see synthetic images: with real ones, with classic augmentation too, and alone.

    At ratio 0 there is nothing to train: real only is what train_baselines does.

    Example: python -m stages.train_augmented --budget 1000 --synthetic-per-real 0.5 --train
    data/prepared/train.npz --synthetic data/synthetic/1000 --scores data/label_scores/1000.npz
    --out data/classifier/1000/augmented/0.5.safetensors
    """
    from pipeline.arms import AUGMENTED_ARMS, declared_arms, parse_budget, real_subset
    from pipeline.classifier.cells import save_cells
    from pipeline.classifier.study import train_cells
    from pipeline.images import LabeledImages
    from pipeline.label_filter import accepted_images, load_agreement
    from pipeline.params import load_params

    params = load_params(params_file)
    real = LabeledImages.load(train)
    size, seed = parse_budget(budget), params.seed
    cells, arguments = train_cells(
        declared_arms(AUGMENTED_ARMS, params.study.arms) if synthetic_per_real > 0 else (),
        budget=size,
        synthetic_per_real=synthetic_per_real,
        replicates=params.study.replicates,
        real_of=lambda replicate: real_subset(
            real, budget=size, replicate=replicate, seed=seed, imbalance=params.study.imbalance
        ),
        synthetic_of=lambda replicate: LabeledImages.load(synthetic / f"{replicate}.npz"),
        accepted_of=lambda replicate: accepted_images(
            LabeledImages.load(synthetic / f"{replicate}.npz"),
            load_agreement(scores, replicate),
            least_probability=params.study.label_filter,
        ),
        classifier=params.classifier,
        seed=seed,
        execution=params.execution,
        what=f"{synthetic_per_real} synthetic per real, {budget} real",
    )
    save_cells(out, cells, arguments=arguments)


if __name__ == "__main__":
    run(main)
