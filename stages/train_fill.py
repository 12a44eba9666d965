"""Stage `train_fill`: synthetic images fill the gap of rare classes, made or by nature."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, Collapsed, ParamsFile, run


def main(
    budget: Budget,
    train: Annotated[Path, typer.Option(help="The real train split.")],
    synthetic: Annotated[
        Path, typer.Option(help="Folder of the synthetic images, <budget>/<replicate>.npz each.")
    ],
    collapsed: Collapsed,
    out: Annotated[Path, typer.Option(help="Folder of the classifiers: <budget>/fill.safetensors.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train the classifiers whose rare classes are brought up to study.fill_to with synthetic images.

    Without study.imbalance and without study.fill_to there is no such arm, and nothing to train.

    Example: python -m stages.train_fill --budget 3000 --train data/prepared/train.npz
    --synthetic data/synthetic --collapsed data/metrics/collapsed --out data/classifier
    """
    from pipeline.classifier.declared_arms import train_declared_arms
    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.study.arms import arms_at
    from pipeline.study.subsets import parse_budget, real_subsets
    from pipeline.study.trained_gans import remaining_replicates
    from pipeline.study.training_sets import ReplicateImages

    params = load_params(params_file)
    size = parse_budget(budget)
    real = LabeledImages.load(train)
    replicates = remaining_replicates(collapsed / f"{budget}.json", declared=params.study.replicates)

    def images() -> Iterator[ReplicateImages]:
        for subset in real_subsets(
            real,
            budget=size,
            replicates=replicates,
            seed=params.seed,
            imbalance=params.study.imbalance,
        ):
            replicate = subset.provenance["replicate"]
            made = LabeledImages.load(synthetic / budget / f"{replicate}.npz")
            yield ReplicateImages(subset, made, fill_to=params.study.fill_to)

    train_declared_arms(
        out / budget / "fill.safetensors",
        arms_at("fill", params.study.arms),
        images(),
        count=len(replicates),
        synthetic_per_real=0,
        classifier=params.classifier.of_budget(parse_budget(budget)),
        augmentation=params.augmentation,
        seed=params.seed,
        execution=params.execution,
        label=f"rare classes filled, {budget} real",
    )


if __name__ == "__main__":
    run(main)
