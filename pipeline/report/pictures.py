"""The pictures of the page: drawings as SVG, photographs as data URIs, and both as files for slides and MLflow."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.report import charts
from pipeline.report.drawing import numbered, png, png_of_pixels, png_uri, svg_file, svg_of_page, svg_tree
from pipeline.results import BudgetResults, Results
from pipeline.runtime.outputs import atomic_output

_GAP = 2  # pixels between the two images of a pair
_PAIR_SIZE = 56  # at least that many pixels is an image of a pair high


@dataclass(frozen=True)
class Drawing:
    """A drawing of the page: an SVG element that carries its words, and how many inches it is wide."""

    svg: Markup
    inches: float
    caption: str


@dataclass(frozen=True)
class Picture:
    """A photograph of the page: a data URI, and words for those who cannot see it."""

    uri: str
    alt: str
    width: int  # CSS pixels at which it is drawn one to one
    caption: str = ""


def drawing(
    figures: Path,
    name: str,
    draw: Callable[..., Figure],
    alt: str,
    caption: str,
    *,
    class_names: Sequence[str] | None = None,
    most_bytes: int | None = None,
) -> Drawing:
    """A drawing for the page, and as `<name>.svg` and `<name>.png` in the folder `figures`.

    Args:
        figures: where the files are written.
        name: of the files.
        draw: a function of `charts` with its data; takes the names of the classes, where there are any.
        alt: the words for those who do not see it.
        caption: what to look at.
        class_names: in label order; in the PNG the label stands for a name whose letters its font lacks.
        most_bytes: of each photograph in the page's drawing; None: as many as it has.
    """
    figure = draw() if class_names is None else draw(class_names)
    svg = svg_tree(figure)
    figure.set_layout_engine("none")  # laid out by now; once more would take as long as all the rest
    if class_names is not None and (written := numbered(class_names)) != [*class_names]:
        figure = draw(written)
    _save(figures, name, svg_file(svg), png(figure))
    return Drawing(svg_of_page(svg, name, alt, most_bytes=most_bytes), figure.get_figwidth(), caption)


def sample_pictures(
    results: Results, budget_results: BudgetResults, figures: Path, *, columns: int, most_bytes: int
) -> Drawing:
    """Real images beside synthetic ones, a row per class."""
    real, first = results.train, budget_results.replicates[0]
    synthetic = first.synthetic
    columns = min(columns, int(real.counts().min()), int(synthetic.counts().min()))
    return drawing(
        figures,
        f"samples_{budget_results.budget}",
        partial(charts.sample_grid, _first_per_class(real, columns), _first_per_class(synthetic, columns)),
        f"Real images of the train split beside synthetic images, {columns} of each class:"
        f" {', '.join(results.class_names)}.",
        f"Left: real images of the train split. Right: the first {columns} synthetic images of each"
        f" class, not picked, from replicate {first.number} ({budget_results.budget} real images). A row is a class.",
        class_names=results.class_names,
        most_bytes=most_bytes // 2,
    )


def film_strips(budget_results: BudgetResults, figures: Path, *, most_bytes: int) -> list[Picture]:
    """The same latents over the training of each replicate."""
    pictures = []
    for replicate_results in budget_results.replicates:
        replicate, strip = replicate_results.number, replicate_results.film_strip
        with atomic_output(figures / f"film_strip_{budget_results.budget}_{replicate}.png") as temporary:
            temporary.write_bytes(strip)
        with Image.open(io.BytesIO(strip)) as image:
            width = image.width
        pictures.append(
            Picture(
                png_uri(strip, most_bytes),
                f"Synthetic images of replicate {replicate} from the start of training to its end.",
                width,
                f"Replicate {replicate}: the same latents over training, from left to right.",
            )
        )
    return pictures


def closest_pairs(
    results: Results, budget_results: BudgetResults, figures: Path, *, space: str, most: int
) -> list[Picture]:
    """The pairs of the smallest nearness over all replicates, closest first, for the page and as files.

    Raises:
        SynthGainError: if a pair's positions are not in the files at hand.
    """
    found = sorted(
        (
            (pair["nearness"], int(replicate), pair)
            for replicate, scores in budget_results.generative["replicates"].items()
            for pair in scores["memorization"]["closest_pairs"]
            if pair["space"] == space
        ),
        key=lambda pair: pair[:2],
    )[:most]
    of_number = {one.number: one for one in budget_results.replicates}
    written = dict(zip(results.class_names, numbered(results.class_names), strict=True))
    pairs, in_page, in_png = [], [], []
    for nearness, replicate, pair in found:
        picture = _beside(
            _image(
                of_number[replicate].synthetic,
                pair["synthetic_index"],
                f"budget {budget_results.budget}, replicate {replicate}",
            ),
            _image(results.train, pair["train_index"], "train split"),
        )
        name = pair["class"]
        words = f"{charts.short(name)}: {nearness:.2f}"
        in_page.append((picture, words))
        in_png.append((picture, f"{charts.short(written.get(name, name))}: {nearness:.2f}"))
        pairs.append(
            Picture(
                _enlarged(picture),
                f"Synthetic {name} of replicate {replicate} (left) and its nearest training image (right),"
                f" nearness {nearness:.2f}.",
                116,
                words,
            )
        )
    if pairs:
        gallery = charts.pair_gallery(in_page)
        svg = svg_file(svg_tree(gallery))
        words_differ = any(page[1] != file[1] for page, file in zip(in_page, in_png, strict=True))
        drawn = png(charts.pair_gallery(in_png) if words_differ else gallery)
        _save(figures, f"closest_pairs_{budget_results.budget}_{space}", svg, drawn)
    return pairs


def _save(figures: Path, name: str, svg: bytes, png: bytes) -> None:
    for ending, data in (("svg", svg), ("png", png)):
        with atomic_output(figures / f"{name}.{ending}") as temporary:
            temporary.write_bytes(data)


def _image(images: LabeledImages, index: int, whose: str) -> npt.NDArray[np.uint8]:
    if not 0 <= index < len(images):
        raise SynthGainError(
            f"closest pairs: image {index} of {whose}, which has {len(images)}; `dvc repro` evaluates again"
        )
    image: npt.NDArray[np.uint8] = images.images[index, 0]
    return image


def _beside(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    gap = np.full((len(left), _GAP), 128, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def _enlarged(picture: npt.NDArray[np.uint8]) -> str:
    zoom = -(-_PAIR_SIZE // len(picture))
    data = png_of_pixels(Image.fromarray(picture.repeat(zoom, axis=0).repeat(zoom, axis=1)))
    return png_uri(data, len(data))


def _first_per_class(images: LabeledImages, columns: int) -> npt.NDArray[np.uint8]:
    """(classes, columns, H, W): the first images of each class."""
    return np.stack(
        [images.images[images.labels == label][:columns, 0] for label in range(images.num_classes)]
    )
