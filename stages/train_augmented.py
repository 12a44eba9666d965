"""Stage `train_augmented`: the arms with synthetic images at one ratio."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, ParamsFile, Ratio, run


def main(
    budget: Budget,
    synthetic_per_real: Ratio,
    train: Annotated[Path, typer.Option(help="The real train split.")],
    synthetic: Annotated[
        Path, typer.Option(help="Folder of the synthetic images, <budget>/<replicate>.npz each.")
    ],
    scores: Annotated[Path, typer.Option(help="Folder of the label scores, <budget>.npz each.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the classifiers: <budget>/augmented/<ratio>.safetensors.")
    ],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train the classifiers that see synthetic images: with real ones, with classic augmentation too, and alone.

    At ratio 0 there is nothing to train: real only is what train_baselines does.

    Example: python -m stages.train_augmented --budget 1000 --synthetic-per-real 0.5 --train
    data/prepared/train.npz --synthetic data/synthetic --scores data/label_scores --out data/classifier
    """
    from pipeline.arms import AUGMENTED_ARMS, declared_arms, parse_budget, parse_ratio, real_subset
    from pipeline.classifier.cells import save_cells
    from pipeline.classifier.study import train_cells
    from pipeline.images import LabeledImages
    from pipeline.label_filter import accepted_images, load_agreement
    from pipeline.params import load_params

    params = load_params(params_file)
    real = LabeledImages.load(train)
    size, ratio, seed = parse_budget(budget), parse_ratio(synthetic_per_real), params.seed
    cells, arguments = train_cells(
        declared_arms(AUGMENTED_ARMS, params.study.arms) if ratio > 0 else (),
        budget=size,
        synthetic_per_real=float(ratio),
        replicates=params.study.replicates,
        real_of=lambda replicate: real_subset(
            real, budget=size, replicate=replicate, seed=seed, imbalance=params.study.imbalance
        ),
        synthetic_of=lambda replicate: LabeledImages.load(synthetic / budget / f"{replicate}.npz"),
        accepted_of=lambda replicate: accepted_images(
            LabeledImages.load(synthetic / budget / f"{replicate}.npz"),
            load_agreement(scores / f"{budget}.npz", replicate),
            least_probability=params.study.label_filter,
        ),
        classifier=params.classifier,
        seed=seed,
        execution=params.execution,
        what=f"{ratio} synthetic per real, {budget} real",
    )
    save_cells(out / budget / "augmented" / f"{ratio}.safetensors", cells, arguments=arguments)


if __name__ == "__main__":
    run(main)
