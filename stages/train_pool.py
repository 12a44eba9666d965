"""Stage `train_pool`: the arms on the real subset and the pool, without synthetic images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, ParamsFile, run


def main(
    budget: Budget,
    train: Annotated[Path, typer.Option(help="The real train split.")],
    labels: Annotated[Path, typer.Option(help="Folder of the pseudo-labels, <budget>.npz each.")],
    out: Annotated[Path, typer.Option(help="Folder of the classifiers: <budget>/pool.safetensors.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train the classifiers that see, beside the labelled images of each step, images of the pool.

    With study.pool none there is no such arm, and nothing to train.

    Example: python -m stages.train_pool --budget 100 --train data/prepared/train.npz --labels data/pseudo_labels
    --out data/classifier
    """
    from pipeline.classifier.declared_arms import train_declared_arms
    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.study.arms import arms_at
    from pipeline.study.subsets import parse_budget, real_subsets
    from pipeline.study.training_sets import ReplicateImages, replicate_pool, without_collapsed

    params = load_params(params_file)
    size = parse_budget(budget)
    arms = without_collapsed(arms_at("pool", params.study.arms), labels / f"{budget}.npz")
    real = LabeledImages.load(train)

    def images() -> Iterator[ReplicateImages]:
        for subset in real_subsets(
            real,
            budget=size,
            replicates=range(params.study.replicates),
            seed=params.seed,
            imbalance=params.study.imbalance,
        ):
            pool = replicate_pool(
                real,
                subset,
                arms=arms,
                size=params.study.pool,
                seed=params.seed,
                pseudo_labels=labels / f"{budget}.npz",
            )
            yield ReplicateImages(subset, pool=pool)

    train_declared_arms(
        out / budget / "pool.safetensors",
        arms,
        images(),
        count=params.study.replicates,
        synthetic_per_real=0,
        classifier=params.classifier.of_budget(size),
        augmentation=params.augmentation,
        pool=params.pool,
        seed=params.seed,
        execution=params.execution,
        label=f"arms with the pool, {budget} real",
    )


if __name__ == "__main__":
    run(main)
