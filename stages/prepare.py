"""Stage `prepare`: train, validation and test as `LabeledImages`, and the manifest of the splits."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    raw: Annotated[Path, typer.Option(help="The raw folder that `download` filled.")],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for train.npz, validation.npz, test.npz, held_out_keys.npz and splits.json."
        ),
    ],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Read the raw files, hold out a stratified validation split, and prove that no image is in two splits.

    A study that these splits do not allow is refused here, before anything is trained.

    Example: python -m stages.prepare --raw data/raw --out data/prepared
    """
    import json

    from pipeline.feasibility import refuse_impossible_study, unequal_classes
    from pipeline.held_out import write_held_out_keys
    from pipeline.params import load_params
    from pipeline.runtime.outputs import write_text
    from pipeline.runtime.progress import counted
    from pipeline.runtime.seeds import derive_seed
    from pipeline.sources import load_raw
    from pipeline.sources.splits import split

    params = load_params(params_file)
    published_train, published_test = load_raw(
        params.data.source,
        raw,
        image_size=params.data.image_size,
        test_fraction=params.data.folder_test_fraction,
        seed=derive_seed(params.seed, "test"),
    )
    splits = split(
        published_train,
        published_test,
        validation_images=params.data.validation_images,
        seed=derive_seed(params.seed, "validation"),
    )
    notes = refuse_impossible_study(
        train=splits.train,
        validation=splits.validation,
        test=splits.test,
        study=params.study,
        evaluation=params.evaluation,
        images_per_class=params.generation.images_per_class,
        feature_dim=params.extractor.feature_dim,
        formats=params.export.formats,
    )
    if params.classifier.network != "compact":
        from pipeline.classifier.own_network import try_network

        try_network(
            params.classifier.network,
            params.classifier.code,
            num_classes=splits.train.num_classes,
            image_size=params.data.image_size,
            image_channels=splits.train.channels,
        )
    for name in ("train", "validation", "test"):
        images = getattr(splits, name)
        images.save(out / f"{name}.npz")
        typer.echo(f"{name}: {counted(len(images), 'image')}, {counted(images.num_classes, 'class')}")
    for line in [
        *unequal_classes(splits.train, splits.validation, splits.test, metric=params.study.metric),
        *notes,
    ]:
        typer.echo(line)
    dropped = splits.manifest["dropped_from_train_and_validation"]
    typer.echo(f"{counted(len(dropped), 'image')} dropped: pixel-identical to one of a stricter split")
    if twins := splits.manifest.get("train_images_under_two_labels"):
        typer.echo(
            f"{counted(twins, 'image')} in train under two labels: each is pixel-identical to one of another class,"
            " so at least one label is wrong"
        )
    write_held_out_keys(out / "held_out_keys.npz", {"validation": splits.validation, "test": splits.test})
    write_text(out / "splits.json", json.dumps(splits.manifest, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    run(main)
