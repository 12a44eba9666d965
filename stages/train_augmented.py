"""Stage `train_augmented`: the arms with synthetic images at one ratio."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, Collapsed, ParamsFile, Ratio, run


def main(
    budget: Budget,
    synthetic_per_real: Ratio,
    train: Annotated[Path, typer.Option(help="The real train split.")],
    synthetic: Annotated[
        Path, typer.Option(help="Folder of the synthetic images, <budget>/<replicate>.npz each.")
    ],
    scores: Annotated[Path, typer.Option(help="Folder of the label scores, <budget>.npz each.")],
    collapsed: Collapsed,
    labels: Annotated[Path, typer.Option(help="Folder of the pseudo-labels, <budget>.npz each.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the classifiers: <budget>/augmented/<ratio>.safetensors.")
    ],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train the classifiers that see synthetic images: with real ones, with classic augmentation too, and alone.

    At ratio 0 there is nothing to train: real only is what train_baselines does.

    Example: python -m stages.train_augmented --budget 1000 --synthetic-per-real 0.5 --train
    data/prepared/train.npz --synthetic data/synthetic --scores data/label_scores --collapsed data/metrics/collapsed
    --labels data/pseudo_labels --out data/classifier
    """
    from pipeline.classifier.declared_arms import train_declared_arms
    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.study.arms import arms_at
    from pipeline.study.grid import parse_ratio
    from pipeline.study.label_filter import accepted_images, load_agreement
    from pipeline.study.subsets import parse_budget, real_subsets
    from pipeline.study.trained_gans import remaining_replicates
    from pipeline.study.training_sets import ReplicateImages, replicate_pool, without_collapsed

    params = load_params(params_file)
    size = parse_budget(budget)
    ratio = parse_ratio(synthetic_per_real)
    declared = arms_at("augmented", params.study.arms) if ratio > 0 else []
    arms = without_collapsed(declared, labels / f"{budget}.npz")
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
            pool = replicate_pool(
                real,
                subset,
                arms=arms,
                size=params.study.pool,
                seed=params.seed,
                pseudo_labels=labels / f"{budget}.npz",
            )
            made = LabeledImages.load(synthetic / budget / f"{replicate}.npz")
            accepted = None
            if any(arm.filtered for arm in arms):
                agreement = load_agreement(scores / f"{budget}.npz", replicate)
                accepted = accepted_images(made, agreement, least_probability=params.study.label_filter)
            yield ReplicateImages(subset, made, accepted, pool=pool)

    train_declared_arms(
        out / budget / "augmented" / f"{ratio}.safetensors",
        arms,
        images(),
        count=len(replicates),
        synthetic_per_real=float(ratio),
        classifier=params.classifier.of_budget(parse_budget(budget)),
        augmentation=params.augmentation,
        pool=params.pool,
        seed=params.seed,
        execution=params.execution,
        label=f"{ratio} synthetic per real, {budget} real",
    )


if __name__ == "__main__":
    run(main)
