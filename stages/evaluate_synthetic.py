"""Stage `evaluate_synthetic`: how good a budget's synthetic images are, beside floor and copycat."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, Collapsed, ParamsFile, run


def main(
    budget: Budget,
    synthetic: Annotated[
        Path, typer.Option(help="Folder of the synthetic images, <budget>/<replicate>.npz each.")
    ],
    collapsed: Collapsed,
    labels: Annotated[Path, typer.Option(help="Folder of the pseudo-labels, <budget>.npz each.")],
    extractor: Annotated[Path, typer.Option(help="Folder of the feature extractor.")],
    train: Annotated[Path, typer.Option(help="The train split.")],
    validation: Annotated[Path, typer.Option(help="The validation split: the floor's images.")],
    test: Annotated[Path, typer.Option(help="The test split.")],
    out: Annotated[Path, typer.Option(help="Folder for the metrics, <budget>.json each.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Compare synthetic images with real test images, and with the images that their GAN was trained on.

    Example: python -m stages.evaluate_synthetic --budget 1000 --synthetic data/synthetic
    --collapsed data/metrics/collapsed --labels data/pseudo_labels --extractor data/extractor --train
    data/prepared/train.npz --validation data/prepared/validation.npz --test data/prepared/test.npz
    --out data/metrics/synthetic
    """
    import json
    from functools import partial

    from pipeline.checkpoints import file_sha256
    from pipeline.classifier.network import load_features_and_probabilities
    from pipeline.generative_metrics.budget import BudgetImages
    from pipeline.generative_metrics.evaluate import FeatureNetworks, evaluate_synthetic, warnings_about
    from pipeline.generative_metrics.features import Extractor
    from pipeline.generative_metrics.inception import load_inception
    from pipeline.generative_metrics.memorization import Gate
    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.runtime.device import configure
    from pipeline.runtime.outputs import write_text
    from pipeline.study.pool import labelled_pool
    from pipeline.study.subsets import parse_budget, real_subsets, subset_indices
    from pipeline.study.trained_gans import remaining_replicates

    params = load_params(params_file)
    device = configure(params.execution)
    real_images = parse_budget(budget)
    replicates = remaining_replicates(collapsed / f"{budget}.json", declared=params.study.replicates)
    train_images, test_images = LabeledImages.load(train), LabeledImages.load(test)
    synthetic_images = [LabeledImages.load(synthetic / budget / f"{i}.npz") for i in replicates]
    network = extractor / "extractor.safetensors"
    networks = FeatureNetworks(
        domain=load_features_and_probabilities(network, device),
        extractor=Extractor("domain", file_sha256(network)),
        inception=load_inception(device) if params.evaluation.features == "inception" else None,
    )
    subset = partial(
        subset_indices,
        train_images,
        budget=real_images,
        seed=params.seed,
        imbalance=params.study.imbalance,
    )
    pools = []
    if params.study.generators_train_on == "pool":
        reals = real_subsets(
            train_images,
            budget=real_images,
            replicates=replicates,
            seed=params.seed,
            imbalance=params.study.imbalance,
        )
        file = labels / f"{budget}.npz"
        pools = [
            indices[given.kept]
            for indices, given in (
                labelled_pool(
                    train_images, real, size=params.study.pool, seed=params.seed, pseudo_labels=file
                )
                for real in reals
            )
        ]
    images = BudgetImages(
        budget=real_images,
        replicates=replicates,
        synthetic=synthetic_images,
        train=train_images,
        subsets=[subset(replicate=i) for i in replicates],
        validation=LabeledImages.load(validation),
        test=test_images,
        pools=pools,
    )
    table = evaluate_synthetic(
        images,
        networks,
        n=params.evaluation.images,
        neighbors=params.evaluation.neighbors,
        gate=Gate(
            near_copies_margin=params.evaluation.memorization_near_copies_margin,
            authenticity_margin=params.evaluation.memorization_authenticity_margin,
        ),
        seed=params.seed,
    )
    for warning in warnings_about(table, n=params.evaluation.images):
        typer.echo(warning, err=True)
    write_text(out / f"{budget}.json", json.dumps(table, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    run(main)
