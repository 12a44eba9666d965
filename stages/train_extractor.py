"""Stage `train_extractor`: the network whose features the generative metrics compare."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    train: Annotated[Path, typer.Option(help="The real train split.")],
    validation: Annotated[Path, typer.Option(help="The real validation split.")],
    out: Annotated[Path, typer.Option(help="Folder for the extractor.")],
    metrics: Annotated[Path, typer.Option(help="JSON with its accuracy and the real-against-real floor.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train a small CNN on the whole real train split, for features of this very domain.

    Example: python -m stages.train_extractor --train data/prepared/train.npz --validation
    data/prepared/validation.npz --out data/extractor --metrics data/metrics/extractor.json
    """
    import json

    import numpy as np

    from pipeline.checkpoints import file_sha256
    from pipeline.classifier.network import load_features_and_probabilities, save_extractor
    from pipeline.classifier.training import Recipe, train_classifier
    from pipeline.generative_metrics.features import Extractor, statistics_from_features
    from pipeline.generative_metrics.fid import fid_floor
    from pipeline.images import LabeledImages, stratified_indices
    from pipeline.params import load_params
    from pipeline.runtime.device import configure, training_dtype
    from pipeline.runtime.outputs import atomic_output, write_text
    from pipeline.runtime.progress import progress
    from pipeline.runtime.seeds import derive_seed

    params = load_params(params_file)
    device = configure(params.execution)
    real, held_out = LabeledImages.load(train), LabeledImages.load(validation)
    with progress("extractor", params.extractor.steps, "steps") as advance:
        network = train_classifier(
            Recipe(real, derive_seed(params.seed, "extractor")),
            params.extractor,
            device=device,
            dtype=training_dtype(params.execution, device),
            advance=advance,
        )
    with atomic_output(out) as folder:
        folder.mkdir()
        checkpoint = folder / "extractor.safetensors"
        save_extractor(checkpoint, network, real, device)
        extractor = Extractor("domain", file_sha256(checkpoint))
        features_and_probabilities = load_features_and_probabilities(checkpoint, device)
        validation_features, probabilities = features_and_probabilities(held_out.images)
        # The floor: as many train images against the validation split; real against real is never 0.
        rng = np.random.default_rng(derive_seed(params.seed, "extractor-floor"))
        size = min(len(held_out), len(real))
        sample = real.subset(stratified_indices(real.labels, size, real.num_classes, rng))
        train_features, _ = features_and_probabilities(sample.images)
        reference = statistics_from_features(validation_features, extractor=extractor)
        reference.save(folder / "validation_statistics.npz")
        floor = fid_floor(
            real=reference, other_real=statistics_from_features(train_features, extractor=extractor)
        )
        facts = {
            "validation_accuracy": round(float((probabilities.argmax(axis=1) == held_out.labels).mean()), 6),
            "feature_dim": params.extractor.feature_dim,
            "floor_fid": round(floor.value, 6),
            "floor_n": floor.n,
            "extractor_sha256": extractor.sha256,
        }
    write_text(metrics, json.dumps(facts, indent=2, sort_keys=True) + "\n")
    typer.echo(
        f"extractor: validation accuracy {facts['validation_accuracy']:.2%}, floor FID {floor.value:.3f} at n={floor.n}"
    )


if __name__ == "__main__":
    run(main)
