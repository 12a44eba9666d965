"""A data set in each of its formats, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import SynthGainError
from pipeline.export.card import card
from pipeline.export.idx import write_idx
from pipeline.export.manifest import foreign_files, write_manifest
from pipeline.export.png import write_png
from pipeline.export.selection import Budget, Selection
from pipeline.images import LabeledImages
from pipeline.runtime import atomic_output

WRITERS = {"idx": write_idx, "png": write_png}


def load_synthetic(path: Path, *, budget: Budget, replicate: int) -> LabeledImages:
    """Read the synthetic images of one budget and replicate.

    Raises:
        SynthGainError: if the file is unreadable, is empty, holds real images, or those of another budget
            or replicate.
    """
    images = LabeledImages.load(path)
    wanted = {"kind": "synthetic", "budget": budget, "replicate": replicate}
    for key, value in wanted.items():
        if images.provenance.get(key) != value:
            raise SynthGainError(
                f"{path}: its {key} is {images.provenance.get(key)}, only {value} may be exported from here;"
                " run the generate stage again"
            )
    if not len(images):
        raise SynthGainError(f"{path}: holds no image; run the generate stage again")
    return images


def export_dataset(
    images: LabeledImages,
    out: Path,
    *,
    formats: Sequence[str],
    source: str,
    selection: Selection,
    force: bool,
) -> None:
    """Write `<out>/<format>/` for each format: the images, README.md, manifest.json and SHA256SUMS.

    The same images give the same bytes. An earlier export is replaced. A folder with other files in it is
    refused; with `force` it is renamed to `<format>.before-<number>`: no file that is not ours is deleted
    or written over.

    Raises:
        SynthGainError: if a folder holds files that no export wrote, before anything is written.
    """
    folders = {name: out / name for name in formats}
    for folder in folders.values():
        _make_way(folder, force=force)
    for name, folder in folders.items():
        facts = selection.facts()
        with atomic_output(folder) as temporary:
            temporary.mkdir()
            WRITERS[name](images, temporary)
            text = card(images, format_name=name, source=source, study=facts)
            (temporary / "README.md").write_text(text, encoding="utf-8", newline="\n")
            write_manifest(images, temporary, format_name=name, source=source, study=facts)


def _make_way(folder: Path, *, force: bool) -> None:
    foreign = foreign_files(folder) if folder.is_dir() else [folder.name] if folder.exists() else []
    if not foreign:
        return
    if not force:
        raise SynthGainError(
            f"{folder}: holds {foreign[0]}{' and more' if len(foreign) > 1 else ''}, which no export wrote;"
            " choose another --out, or pass --force to move it aside"
        )
    number = 1
    while (aside := folder.with_name(f"{folder.name}.before-{number}")).exists():
        number += 1
    folder.rename(aside)
