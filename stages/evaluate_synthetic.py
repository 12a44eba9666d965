"""Stage `evaluate_synthetic`: what a budget's synthetic images are worth, beside floor and copycat."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, ParamsFile, run


def main(
    budget: Budget,
    synthetic: Annotated[
        Path, typer.Option(help="Folder of the synthetic images, <budget>/<replicate>.npz each.")
    ],
    extractor: Annotated[Path, typer.Option(help="Folder of the feature extractor.")],
    train: Annotated[Path, typer.Option(help="The train split.")],
    test: Annotated[Path, typer.Option(help="The test split.")],
    out: Annotated[Path, typer.Option(help="Folder for the metrics, <budget>.json each.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Compare synthetic images with real test images, and with the images that their GAN was trained on.

    Example: python -m stages.evaluate_synthetic --budget 1000 --synthetic data/synthetic
    --extractor data/extractor --train data/prepared/train.npz --test data/prepared/test.npz
    --out data/metrics/synthetic
    """
    import json

    from pipeline.checkpoints import file_sha256
    from pipeline.classifier.network import load_features_and_probabilities
    from pipeline.generative_metrics.evaluate import evaluate_budget
    from pipeline.generative_metrics.features import Extractor
    from pipeline.generative_metrics.inception import load_inception
    from pipeline.generative_metrics.memorization import Gate, evaluate_memorization
    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.runtime.device import configure
    from pipeline.runtime.outputs import write_text
    from pipeline.study.subsets import parse_budget, real_subset, subset_indices

    params = load_params(params_file)
    device = configure(params.execution)
    real_images = parse_budget(budget)
    network = extractor / "extractor.safetensors"
    train_images, test_images = LabeledImages.load(train), LabeledImages.load(test)
    made = [LabeledImages.load(synthetic / budget / f"{i}.npz") for i in range(params.study.replicates)]
    features_and_probabilities = load_features_and_probabilities(network, device)
    metrics = evaluate_budget(
        budget=real_images,
        synthetic=made,
        real_subset=real_subset(
            train_images,
            budget=real_images,
            replicate=0,
            seed=params.seed,
            imbalance=params.study.imbalance,
        ),
        train=train_images,
        test=test_images,
        features_and_probabilities=features_and_probabilities,
        extractor=Extractor("domain", file_sha256(network)),
        inception=load_inception(device) if params.evaluation.features == "inception" else None,
        images=params.evaluation.images,
        neighbors=params.evaluation.neighbors,
        seed=params.seed,
    )
    if metrics["n"] < params.evaluation.images:
        typer.echo(
            f"n lowered from evaluation.images {params.evaluation.images} to {metrics['n']}:"
            " the splits and the synthetic images offer no more in the test split's class shares",
            err=True,
        )
    memorization = evaluate_memorization(
        budget=real_images,
        synthetic=made,
        train=train_images,
        subsets=[
            subset_indices(
                train_images,
                budget=real_images,
                replicate=i,
                seed=params.seed,
                imbalance=params.study.imbalance,
            )
            for i in range(params.study.replicates)
        ],
        test=test_images,
        features_of=lambda images: features_and_probabilities(images)[0],
        images=params.evaluation.images,
        gate=Gate(
            near_copies_margin=params.evaluation.memorization_near_copies_margin,
            authenticity_margin=params.evaluation.memorization_authenticity_margin,
        ),
        seed=params.seed,
    )
    for replicate, found in memorization.pop("replicates").items():
        metrics["replicates"][replicate]["memorization"] = found
        if not found["passed"]:
            typer.echo(
                f"replicate {replicate} does not pass the memorisation gate: {found['reason']}; raise"
                " gan.real_augmentation (or gan.real_augmentation_up_to, where it is not in force), so that the GAN"
                " learns more than its real images",
                err=True,
            )
    metrics["memorization"] = memorization
    write_text(out / f"{budget}.json", json.dumps(metrics, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    run(main)
