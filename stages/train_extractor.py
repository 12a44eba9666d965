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

    from pipeline.checkpoints import file_sha256
    from pipeline.classifier.extractor import find_or_train_extractor
    from pipeline.classifier.network import load_features_and_probabilities, save_extractor
    from pipeline.generative_metrics.extractor import evaluate_extractor
    from pipeline.generative_metrics.features import Extractor
    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.runtime.device import configure
    from pipeline.runtime.outputs import atomic_output, write_text
    from pipeline.runtime.seeds import derive_seed

    params = load_params(params_file)
    device = configure(params.execution)
    train_images, validation_images = LabeledImages.load(train), LabeledImages.load(validation)
    network = find_or_train_extractor(
        train_images,
        params.extractor,
        seed=derive_seed(params.seed, "extractor"),
        execution=params.execution,
    )
    with atomic_output(out) as folder:
        folder.mkdir()
        checkpoint = folder / "extractor.safetensors"
        save_extractor(checkpoint, network, train_images, device)
        facts = evaluate_extractor(
            load_features_and_probabilities(checkpoint, device),
            Extractor("domain", file_sha256(checkpoint)),
            validation=validation_images,
            seed=params.seed,
        )
    write_text(metrics, json.dumps(facts, indent=2, sort_keys=True) + "\n")
    typer.echo(
        f"extractor: validation accuracy {facts['validation_accuracy']:.2%},"
        f" floor FID {facts['floor_fid']:.3f} at n={facts['floor_n']}"
    )


if __name__ == "__main__":
    run(main)
