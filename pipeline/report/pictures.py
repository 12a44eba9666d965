"""The pictures of the page, as data URIs, and the same as files for slides."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.errors import SynthGainError
from pipeline.figures import (
    DARK,
    LIGHT,
    Theme,
    figure_bytes,
    pair_gallery,
    sample_grid,
    save_figure,
    short,
)
from pipeline.images import LabeledImages
from pipeline.report import plots
from pipeline.report.results import BudgetResults, Results
from pipeline.runtime.outputs import atomic_output

_GAP = 2  # pixels between the two images of a pair
_PAIR_SIZE = 56  # at least that many pixels is an image of a pair high

Draw = Callable[..., Any]  # keyword `theme`; a Matplotlib figure or, for plots, JSON values


@dataclass(frozen=True)
class Picture:
    """A picture of the page: data URIs for a light and a dark page, and words for those who cannot see it.

    `plot` is the interactive plot that takes its place on a screen with scripts (JSON, both themes; empty: none),
    `height` how many CSS pixels it is high.
    """

    light: str
    dark: str
    alt: str
    width: int  # CSS pixels at which it is drawn one to one
    caption: str = ""
    plot: str = ""
    height: int = 0


@dataclass(frozen=True)
class Pair:
    """A synthetic image beside its nearest training image."""

    uri: str
    alt: str
    caption: str


def drawing(figures: Path, name: str, draw: Draw, plot: Draw, alt: str, caption: str) -> Picture:
    """A drawing in both themes, as files in the light one, and its interactive twin.

    Args:
        figures: where `<name>.svg` and `.png` are written.
        name: of the files.
        draw: takes `theme`, returns the Matplotlib figure.
        plot: takes `theme`, returns the Plotly figure as JSON values.
        alt: the words for those who do not see it.
        caption: what to look at.
    """
    light = draw(theme=LIGHT)
    save_figure(light, figures / name)
    interactive = [plot(theme=theme) for theme in (LIGHT, DARK)]
    return Picture(
        _uri("svg+xml", (figures / f"{name}.svg").read_bytes()),
        _uri("svg+xml", figure_bytes(draw(theme=DARK), "svg")),
        alt,
        round(96 * light.get_figwidth()),
        caption,
        plots.embedded(*interactive),
        interactive[0]["layout"]["height"],
    )


def sample_pictures(
    results: Results, of: BudgetResults, figures: Path, *, columns: int, most_bytes: int
) -> Picture:
    """Real images beside synthetic ones, a row per class, in both themes."""
    real, synthetic = results.train, of.synthetic[0]
    columns = min(columns, int(real.counts().min()), int(synthetic.counts().min()))

    def draw(theme: Theme) -> Any:
        return sample_grid(
            _first_per_class(real, columns),
            _first_per_class(synthetic, columns),
            results.class_names,
            theme=theme,
        )

    light = draw(LIGHT)
    save_figure(light, figures / f"samples_{of.budget}")
    return Picture(
        _pixels_uri(figure_bytes(light, "png"), most_bytes),
        _pixels_uri(figure_bytes(draw(DARK), "png"), most_bytes),
        f"Real images of the train split beside synthetic images, {columns} of each class:"
        f" {', '.join(results.class_names)}.",
        round(0.75 * light.get_figwidth() * light.dpi),
        f"Left: real images of the train split. Right: the first {columns} synthetic images of each"
        f" class, not picked, from replicate 0 ({of.budget} real images). A row is a class.",
    )


def film_strips(of: BudgetResults, figures: Path, *, most_bytes: int) -> list[Picture]:
    """The same latents over the training of each replicate."""
    pictures = []
    for replicate, png in enumerate(of.film_strips):
        with atomic_output(figures / f"film_strip_{of.budget}_{replicate}.png") as temporary:
            temporary.write_bytes(png)
        uri = _pixels_uri(png, most_bytes)
        with Image.open(io.BytesIO(png)) as image:
            width = image.width
        pictures.append(
            Picture(
                uri,
                uri,
                f"Synthetic images of replicate {replicate} from the start of training to its end.",
                width,
                f"Replicate {replicate}: the same latents over training, from left to right.",
            )
        )
    return pictures


def closest_pairs(results: Results, of: BudgetResults, figures: Path, *, space: str, most: int) -> list[Pair]:
    """The pairs of the smallest nearness over all replicates, closest first, as pictures of the page and as files.

    Raises:
        SynthGainError: if a pair's positions are not in the files at hand.
    """
    found = sorted(
        (
            (pair["nearness"], int(replicate), pair)
            for replicate, scores in of.generative["replicates"].items()
            for pair in scores["memorization"]["closest_pairs"]
            if pair["space"] == space
        ),
        key=lambda each: each[:2],
    )[:most]
    pairs, pictures = [], []
    for nearness, replicate, pair in found:
        picture = _side_by_side(
            _image(
                of.synthetic[replicate], pair["synthetic_index"], f"budget {of.budget}, replicate {replicate}"
            ),
            _image(results.train, pair["train_index"], "train split"),
        )
        words = f"{short(pair['class'])}: {nearness:.2f}"
        pictures.append((picture, words))
        pairs.append(
            Pair(
                _array_uri(picture),
                f"Synthetic {pair['class']} of replicate {replicate} (left) and its nearest training image (right),"
                f" nearness {nearness:.2f}.",
                words,
            )
        )
    if pictures:
        save_figure(pair_gallery(pictures, theme=LIGHT), figures / f"closest_pairs_{of.budget}_{space}")
    return pairs


def _image(images: LabeledImages, index: int, whose: str) -> npt.NDArray[np.uint8]:
    if not 0 <= index < len(images):
        raise SynthGainError(
            f"closest pairs: image {index} of {whose}, which has {len(images)}; `dvc repro` evaluates again"
        )
    image: npt.NDArray[np.uint8] = images.images[index, 0]
    return image


def _side_by_side(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    gap = np.full((len(left), _GAP), 128, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def _array_uri(picture: npt.NDArray[np.uint8]) -> str:
    zoom = -(-_PAIR_SIZE // len(picture))
    return _uri("png", _png(Image.fromarray(picture.repeat(zoom, axis=0).repeat(zoom, axis=1))))


def _first_per_class(images: LabeledImages, columns: int) -> npt.NDArray[np.uint8]:
    """(classes, columns, H, W): the first images of each class."""
    return np.stack(
        [images.images[images.labels == label][:columns, 0] for label in range(images.num_classes)]
    )


def _pixels_uri(png: bytes, most: int) -> str:
    """A PNG of at most `most` bytes as a data URI, scaled down as far as that needs."""
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.copy()
    while len(png) > most and min(image.size) > 8:
        image = image.resize(
            (max(image.width * 3 // 4, 1), max(image.height * 3 // 4, 1)), Image.Resampling.LANCZOS
        )
        png = _png(image)
    return _uri("png", png)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
