"""`synthgain generate`: labelled images from a trained generator, without DVC."""

from pathlib import Path
from typing import Annotated

import typer

_REAL = Path("data/prepared/train.npz")


def generate(
    model: Annotated[
        str, typer.Option(help="generator.safetensors, or models:/NAME@ALIAS of the MLflow registry.")
    ],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    per_class: Annotated[int | None, typer.Option(help="Images of each class.")] = None,
    counts: Annotated[
        str | None,
        typer.Option(
            help="Images of some classes: 3=500,8=2000. Labels do for names, unless names are numbers."
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="As many of each class as a file of labelled images has; real = data/prepared/train.npz."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other images.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 = every core.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Generate labelled images from a trained generator into one file, which `synthgain export` takes.

    Image i of a class depends on the generator, the seed, the class and i only. Killed, it goes on where it was.

    Example: synthgain generate --model data/gan/1000/0/generator.safetensors --per-class 1000 --seed 7 --out digits.npz
    """
    from pipeline.errors import SynthGainError

    # What is wrong with the command is said before torch is loaded.
    if [per_class, counts, like].count(None) != 2:
        raise SynthGainError("counts: name one of --per-class, --counts and --like")
    if per_class is not None and per_class < 1:
        raise SynthGainError(f"--per-class: found {per_class}; at least 1 is needed")
    if like == "real" and not _REAL.is_file():
        raise SynthGainError(f"--like real: {_REAL} is missing; `dvc repro prepare` makes it, or name a file")
    if out.suffix != ".npz":
        raise SynthGainError(f"--out: found {out}; a name that ends in .npz is needed")

    from pipeline.runtime.outputs import only_writer

    # Held from here on: of two at once, the second is told so before it works, and replaces nothing.
    with only_writer(out):
        if out.is_dir() or (out.exists() and not force):
            raise SynthGainError(f"{out}: is there already; name another file, or pass --force to replace it")

        from pipeline.checkpoints import file_sha256
        from pipeline.gan.generation import counts_text, generate_file, parse_counts
        from pipeline.gan.generators import load_generator
        from pipeline.params import Execution
        from pipeline.runtime.device import configure

        if device not in ("auto", "cpu", "cuda"):
            raise SynthGainError(f"--device: found {device}; allowed are auto, cpu and cuda")
        path = _generator_file(model)
        on = configure(
            Execution.model_validate(
                {"device": device, "precision": "float32", "threads": threads, "processes": 1}
            )
        )
        generator, class_names, provenance = load_generator(path, on)
        wanted = (
            parse_counts(counts, class_names)
            if counts is not None
            else _counts_of(_REAL if like == "real" else Path(like), class_names)
            if like is not None
            else [per_class or 0] * len(class_names)
        )
        generate_file(
            generator,
            out,
            class_names=class_names,
            counts=wanted,
            seed=seed,
            provenance={**provenance, "generator_sha256": file_sha256(path)},
            device=on,
        )
    typer.echo(f"{counts_text(wanted, class_names)}: {out}")


def _generator_file(model: str) -> Path:
    """The file itself; one of a registry is fetched."""
    if not model.startswith("models:/"):
        return Path(model)
    import os

    from pipeline.tracking.registry import fetch_generator
    from pipeline.tracking.store import find_store

    return fetch_generator(model, find_store(os.environ, Path.cwd()))


def _counts_of(like: Path, class_names: tuple[str, ...]) -> list[int]:
    """How many images of each class a file of labelled images has."""
    from pipeline.errors import SynthGainError
    from pipeline.export.source import open_images

    example = open_images(like)
    if example.class_names != class_names:
        raise SynthGainError(f"--like: {like} has other classes than the generator")
    return [int((example.labels == label).sum()) for label in range(len(class_names))]
