"""Stage `evaluate_synthetic`: what a budget's synthetic images are worth, beside floor and copycat."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    budget: Annotated[str, typer.Option(help="Real images the GANs were trained on: a number, or all.")],
    synthetic: Annotated[Path, typer.Option(help="Folder of the synthetic images, <replicate>.npz each.")],
    extractor: Annotated[Path, typer.Option(help="Folder of the feature extractor.")],
    train: Annotated[Path, typer.Option(help="The train split.")],
    test: Annotated[Path, typer.Option(help="The test split.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Compare synthetic images with real test images: FID, KID, Inception Score, recall, label fidelity and more.

    Example: python -m stages.evaluate_synthetic --budget 1000 --synthetic data/synthetic/1000
    --extractor data/extractor --train data/prepared/train.npz --test data/prepared/test.npz
    --out data/metrics/synthetic/1000.json
    """
    import json

    from pipeline.arms import parse_budget, real_subset
    from pipeline.checkpoints import file_sha256
    from pipeline.classifier.network import load_features_and_probabilities
    from pipeline.evaluation.features import Extractor
    from pipeline.evaluation.inception import load_inception
    from pipeline.evaluation.synthetic import evaluate_budget
    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.runtime import configure, write_text

    params = load_params(params_file)
    device = configure(params.execution)
    real_images = parse_budget(budget)
    network = extractor / "extractor.safetensors"
    train_images = LabeledImages.load(train)
    metrics = evaluate_budget(
        budget=real_images,
        synthetic=[LabeledImages.load(synthetic / f"{i}.npz") for i in range(params.study.replicates)],
        real_subset=real_subset(train_images, budget=real_images, replicate=0, seed=params.seed),
        train=train_images,
        test=LabeledImages.load(test),
        features_and_probabilities=load_features_and_probabilities(network, device),
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
    write_text(out, json.dumps(metrics, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    run(main)
