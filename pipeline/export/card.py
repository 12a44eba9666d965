"""README.md: the card that goes with an exported data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.images import LabeledImages

_READ_WITH = {
    "idx": (
        "Files with MNIST's names and layout, counted from 0: line i of `classes.txt` names label i,"
        " line i of `ids.txt` image i.\n`torchvision.datasets.MNIST(root)` reads them unpacked in"
        " `<root>/MNIST/raw`, beside a test split (`t10k-*`): take a real one."
    ),
    "png": (
        "One folder per class, one 8-bit greyscale file per image, named by its id.\n"
        "`torchvision.datasets.ImageFolder(root)` reads it, and numbers the classes in alphabetical order of"
        " their folders:\nthe label of this data set is the number before the dash in a file's name."
    ),
}


def card(images: LabeledImages, *, format_name: str, source: str, study: Mapping[str, Any]) -> str:
    """The Markdown text of a data set's card; its first line says that the images are synthetic."""
    height, width = images.images.shape[2:]
    made = images.provenance
    budget = made.get("budget")
    real_images = "all real training images" if budget == "all" else f"{budget} real training images"
    counts = "\n".join(
        f"| {label} | {name.replace('|', '&#124;')} | {count} |"
        for label, (name, count) in enumerate(zip(images.class_names, images.counts().tolist(), strict=True))
    )
    return f"""# Synthetic images, made by a generator: {len(images)} of {images.num_classes} classes

None of these images is real. They are {width}×{height} greyscale; a label is what was asked of the generator.
Mark them as synthetic wherever they go, and never put them into a test split.

- Do they help? At {real_images}, {study["note"]}
- Source: the generator learned from {real_images} of `{source}`, and from nothing else.
  The source's licence and its biases apply to what was learned from it.
- Made by: SynthGain, a conditional GAN; replicate {made.get("replicate")}, seed {made.get("seed")},
  generator `{made.get("generator_sha256")}`.
- Not checked: whether an image resembles one of the training images.

## Files

{_READ_WITH[format_name]}

`manifest.json` has counts, origin and a SHA-256 of every file. `sha256sum -c SHA256SUMS` checks the folder.

## Counts

| label | class | images |
| --- | --- | --- |
{counts}
"""
