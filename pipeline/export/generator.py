"""The generator of an exported data set, with a model card of its own: a folder to put on a hub."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.checkpoints import file_sha256
from pipeline.export.card import advice, memorisation, quality_table, training_images
from pipeline.export.hub import licence_id, model_header
from pipeline.export.licences import real_source
from pipeline.export.manifest import CARD
from pipeline.export.source import ImageFile, as_pictures
from pipeline.markdown import as_markdown
from pipeline.runtime.outputs import atomic_output, write_text

FOLDER = "generator"
_WEIGHTS, _SAMPLES = "generator.safetensors", "samples.png"
_PICTURED_CLASSES, _PICTURED_OF_EACH = 20, 10


def export_generator(
    weights: Path,
    out: Path,
    *,
    images: ImageFile,
    source: str,
    study: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
) -> bool:
    """Write `<out>/generator/`: the weights, a card and a picture. Only where this one file made all of the images.

    Args:
        weights: the generator's file, which may be missing.
        out: the folder of the export.
        images: what it made.
        source: the real data set (`data.source`).
        study: what the study found of such images (JSON values).
        metrics: what `read_quality` gives.

    Returns:
        Whether it was written. Images of several generators, or of one that is no GAN of SynthGain, have no such file.
    """
    if not weights.is_file() or file_sha256(weights) != images.provenance.get("generator_sha256"):
        for name in (_WEIGHTS, _SAMPLES, CARD):  # of an earlier export
            (out / FOLDER / name).unlink(missing_ok=True)
        return False
    with atomic_output(out / FOLDER / _WEIGHTS) as temporary:
        shutil.copyfile(weights, temporary)
    with atomic_output(out / FOLDER / _SAMPLES) as temporary:
        _samples(images).save(temporary, format="PNG", optimize=True)
    real = real_source(source)
    header = model_header(
        name=f"synthgain-{source}",
        source=real.name,
        licence=licence_id({"licence_url": real.licence_url}),
        metrics=metrics,
    )
    text = describe_generator(images, source=source, study=study, metrics=metrics)
    write_text(out / FOLDER / CARD, f"{header}\n{text}")
    return True


def _samples(images: ImageFile) -> Image.Image:
    """A row of images for each class, of many classes for the first ones; at their own size."""
    labels = range(min(len(images.class_names), _PICTURED_CLASSES))
    rows = [np.flatnonzero(images.labels == label)[:_PICTURED_OF_EACH] for label in labels]
    height, width = images.image_size
    shape = (len(rows) * height, _PICTURED_OF_EACH * width, *((3,) if images.channels == 3 else ()))
    picture = np.zeros(shape, dtype=np.uint8)
    for top, positions in enumerate(rows):
        for left, image in enumerate(as_pictures(images.rows(positions))):
            picture[top * height : (top + 1) * height, left * width : (left + 1) * width] = image
    return Image.fromarray(picture)


def describe_generator(
    images: ImageFile,
    *,
    source: str,
    study: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
) -> str:
    """What a generator is, for people, in Markdown; for the arguments see `export_generator`."""
    made, real = images.provenance, real_source(source)
    height, width = images.image_size
    colour = "colour (RGB)" if images.channels == 3 else "greyscale"
    names = ", ".join(as_markdown(name) for name in images.class_names)
    few = len(images.class_names) <= _PICTURED_CLASSES
    pictured = "each class" if few else f"each of the first {_PICTURED_CLASSES} classes"
    sections = [
        f"# A generator of synthetic images, learned from {real.name}",
        f"""It draws {width}×{height} {colour} images of {len(images.class_names)} classes: {names}. It is a conditional
GAN of SynthGain. None of its images is real.

![Synthetic images, a row for {pictured}]({_SAMPLES})""",
        """## How to use it

With SynthGain installed:

```console
$ synthgain generate --model generator.safetensors --per-class 100 --seed 7 --out images.npz
```

The file holds plain tensors and JSON (safetensors), no code.""",
        f"""## Intended use

Training images beside real ones, tests of pipelines, teaching. {advice(study)}
Keep the mark *synthetic* wherever the images go, and never put them into a validation or test split.""",
        f"""## Limits

- It knows these classes and this size only.
- A label is what was asked of it; some images show something else.
- Its images vary less than the real ones that it learned from, and rare shapes are missing.
- {memorisation(metrics)}
- Neither it nor its images are anonymous: what the training images show of persons may show here.""",
        f"""## Training data and licence

It learned from {training_images(made.get("budget"), real.name)}, and from nothing else.
Licence of the source: {real.licence}. {real.licence_url}
That licence and the biases of the source apply to what was learned from it.
Real subset `{made.get("real_subset_sha256")}`; weights `{made.get("generator_sha256")}`.""",
        f"## Quality\n\n{quality_table(metrics)}",
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"
