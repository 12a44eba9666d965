"""Stage `train_controls`: other images in the place of the synthetic ones; no change of the GAN retrains them."""

from collections.abc import Iterator
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
    from pipeline.classifier.declared_arms import train_declared_arms
    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.study.arms import arms_at
    from pipeline.study.grid import parse_ratio
    from pipeline.study.subsets import extra_real_images, parse_budget, real_subsets
    from pipeline.study.training_sets import ReplicateImages

    params = load_params(params_file)
    size = parse_budget(budget)
    ratio = parse_ratio(synthetic_per_real)
    real = LabeledImages.load(train)

    def replicates() -> Iterator[ReplicateImages]:
        for subset in real_subsets(
            real,
            budget=size,
            replicates=range(params.study.replicates),
            seed=params.seed,
            imbalance=params.study.imbalance,
        ):
            yield ReplicateImages(
                subset, extra=extra_real_images(real, subset, images_per_real=float(ratio), seed=params.seed)
            )

    train_declared_arms(
        out / budget / "controls" / f"{ratio}.safetensors",
        arms_at("controls", params.study.arms) if ratio > 0 else [],
        replicates(),
        count=params.study.replicates,
        synthetic_per_real=float(ratio),
        classifier=params.classifier.of_budget(parse_budget(budget)),
        augmentation=params.augmentation,
        seed=params.seed,
        execution=params.execution,
        label=f"{ratio} others per real, {budget} real",
    )


if __name__ == "__main__":
    run(main)
