"""Stage `train_baselines`: the arms on the real subset alone: no change of GAN or ratios retrains them."""

from collections.abc import Iterator
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
    from pipeline.classifier.declared_arms import train_declared_arms
    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.study.arms import arms_at
    from pipeline.study.subsets import extra_real_images, parse_budget, real_subsets
    from pipeline.study.training_sets import ReplicateImages

    params = load_params(params_file)
    size = parse_budget(budget)
    real = LabeledImages.load(train)

    def replicates() -> Iterator[ReplicateImages]:
        for subset in real_subsets(
            real,
            budget=size,
            replicates=range(params.study.replicates),
            seed=params.seed,
            imbalance=params.study.imbalance,
        ):
            extra = extra_real_images(
                real, subset, images_per_real=None, seed=params.seed, fill_to=params.study.fill_to
            )
            yield ReplicateImages(subset, extra=extra, fill_to=params.study.fill_to)

    train_declared_arms(
        out / budget / "baselines.safetensors",
        arms_at("baselines", params.study.arms),
        replicates(),
        count=params.study.replicates,
        synthetic_per_real=0,
        classifier=params.classifier.of_budget(parse_budget(budget)),
        augmentation=params.augmentation,
        seed=params.seed,
        execution=params.execution,
        label=f"baselines, {budget} real",
    )


if __name__ == "__main__":
    run(main)
