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

    from pipeline.checkpoints import file_sha256
    from pipeline.classifier.network import load_features_and_probabilities
    from pipeline.generative_metrics.budget import load_budget_images
    from pipeline.generative_metrics.evaluate import FeatureNetworks, evaluate_synthetic, warnings_about
    from pipeline.generative_metrics.features import Extractor
    from pipeline.generative_metrics.inception import load_inception
    from pipeline.generative_metrics.memorization import Gate
    from pipeline.params import load_params
    from pipeline.runtime.device import configure
    from pipeline.runtime.outputs import write_text
    from pipeline.study.subsets import parse_budget
    from pipeline.study.trained_gans import remaining_replicates

    params = load_params(params_file)
    device = configure(params.execution)
    network = extractor / "extractor.safetensors"
    networks = FeatureNetworks(
        domain=load_features_and_probabilities(network, device),
        extractor=Extractor("domain", file_sha256(network)),
        inception=load_inception(device) if params.evaluation.features == "inception" else None,
    )
    images = load_budget_images(
        budget=parse_budget(budget),
        replicates=remaining_replicates(collapsed / f"{budget}.json", declared=params.study.replicates),
        seed=params.seed,
        imbalance=params.study.imbalance,
        pool=params.study.pool if params.study.generators_train_on == "pool" else "none",
        synthetic=synthetic,
        train=train,
        validation=validation,
        test=test,
        labels=labels,
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
