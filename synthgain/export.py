"""`synthgain export`: generated images as a data set to take away, in the formats that are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.export.source import ImageFile


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC", help="A file of `synthgain generate` or of the pipeline; or generator.safetensors."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(metavar="DIR|URL", help="Where one folder per format goes; s3://… is an object store."),
    ],
    formats: Annotated[
        str,
        typer.Option("--format", help="Of idx, idx_gz, png, npz, parquet, webdataset, arrow, with commas."),
    ] = "parquet",
    data_source: Annotated[
        str, typer.Option("--source", help="The real data set behind the generator, as data.source names it.")
    ] = "unknown",
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Of a generator: images of each class.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of a generator: another seed gives other images; 0 if not given."),
    ] = None,
    with_real: Annotated[
        bool, typer.Option("--with-real", help="Put the generator's own real training images beside them.")
    ] = False,
    train: Annotated[Path, typer.Option(help="For --with-real: the real train split.")] = Path(
        "data/prepared/train.npz"
    ),
    params_file: Annotated[
        Path, typer.Option("--params", help="For --with-real: the study's parameters.")
    ] = Path("params.yaml"),
    shard_size: Annotated[int, typer.Option(min=1, help="Images of a shard.")] = 10_000,
    max_per_class: Annotated[int | None, typer.Option(min=1, help="At most so many of each class.")] = None,
    minimum: Annotated[
        float | None,
        typer.Option(
            "--filter", min=0, max=1, help="Leave out images whose label has a smaller probability."
        ),
    ] = None,
    extractor: Annotated[Path, typer.Option(help="For --filter: the classifier that judges.")] = Path(
        "data/extractor/extractor.safetensors"
    ),
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 = one per core.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Move a folder with foreign files aside.")] = False,
) -> None:
    """Export generated images as data sets with card, manifest, Croissant and checksums.

    The same images give the same bytes. Killed, it goes on after the last complete shard. A generator draws each shard
    when it is written, so that no disk has to hold all images. There is no memorisation gate here: `dvc repro` has one
    for the images of a study.

    Example: synthgain export digits.npz --format idx,parquet --source mnist --out digits

    To an object store: synthgain export generator.safetensors --per-class 100000 --out s3://bucket/digits
    """
    from pipeline.errors import SynthGainError
    from pipeline.export.bucket import Bucket, is_address
    from pipeline.export.dataset import check_formats, export_dataset
    from pipeline.export.samples import select_samples
    from pipeline.export.source import open_images
    from pipeline.export.upload import upload_dataset

    names = check_formats([name.strip() for name in formats.split(",") if name.strip()])
    if source.suffix == ".safetensors":
        if per_class is None:
            raise SynthGainError(f"{source}: of a generator, --per-class says how many images to draw")
        if with_real or minimum is not None:
            raise SynthGainError(
                f"{source}: --with-real and --filter need a file of images; `synthgain generate` makes one"
            )
        synthetic = _images_of_generator(source, per_class=per_class, seed=seed or 0)
    elif per_class is not None or seed is not None:
        raise SynthGainError(
            f"--per-class, --seed: {source} is no generator (.safetensors); leave them out, or name --max-per-class"
        )
    else:
        synthetic = open_images(source)

    from pipeline.checkpoints import file_sha256
    from pipeline.gan.sampling import latent_hashes
    from pipeline.runtime.device import available_cores
    from pipeline.runtime.progress import counted

    scores = real = None
    if minimum is not None:
        from pipeline.scoring.label_scores import load_label_scores, score_rows

        score = load_label_scores(extractor, class_names=synthetic.class_names)
        scores = score_rows(score, synthetic.rows, synthetic.labels)
    if with_real:
        from pipeline.images import LabeledImages
        from pipeline.params import load_params
        from pipeline.study.subsets import real_subset_again

        split = LabeledImages.load(train)
        real = real_subset_again(split, synthetic.provenance, seed=load_params(params_file).seed)
        if real is None:
            raise SynthGainError(
                f"{source}: its generator learned from other real images than {train} and seed of {params_file}"
                " give; name those of its study with --train and --params"
            )
    samples = select_samples(
        synthetic,
        max_per_class=max_per_class,
        scores=scores,
        threshold=minimum,
        scored_by=None if minimum is None else file_sha256(extractor),
        real=real,
        latent_hashes=latent_hashes(synthetic.provenance),
    )
    workers = workers or available_cores()
    if is_address(out):
        if force:
            raise SynthGainError("--force: moves a folder aside; in an object store, name another prefix")
        place: Path | Bucket = Bucket(out)
        written = upload_dataset(
            samples, Bucket(out), formats=names, source=data_source, shard_size=shard_size, workers=workers
        )
    else:
        place = Path(out)
        written = export_dataset(
            samples,
            place,
            formats=names,
            source=data_source,
            shard_size=shard_size,
            workers=workers,
            force=force,
        )
    for name in written:
        typer.echo(f"{counted(len(samples), 'image')}, {name}: {place / name}")


def _images_of_generator(path: Path, *, per_class: int, seed: int) -> ImageFile:
    """The images that `synthgain generate --device cpu` would write; they are drawn when they are needed."""
    import hashlib
    import json
    from functools import partial

    import numpy as np
    import torch

    from pipeline.checkpoints import file_sha256
    from pipeline.export.source import ImageFile
    from pipeline.gan.drawn import drawn_images
    from pipeline.gan.generation import provenance_of
    from pipeline.gan.generators import load_generator
    from pipeline.runtime.store import cpu_capability

    generator, class_names, provenance = load_generator(path, torch.device("cpu"))
    counts = [per_class] * len(class_names)
    sha256 = file_sha256(path)
    provenance = {**provenance, "generator_sha256": sha256}
    made = provenance_of(generator, provenance, counts=counts, seed=seed)
    channels, height, width = generator.image_shape
    # Other kernels may change a grey level: a killed export does not go on with them.
    depends_on = [made, class_names, torch.__version__, cpu_capability()]
    return ImageFile(
        path=path,
        sha256=hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest(),
        labels=np.repeat(np.arange(len(counts), dtype=np.int64), counts),
        class_names=class_names,
        image_size=(height, width),
        channels=channels,
        provenance=made,
        measurements={},
        rows=partial(drawn_images, path=path.absolute(), sha256=sha256, counts=tuple(counts), seed=seed),
        is_drawn=True,
    )
