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
_GRID_PIXELS = (
    600  # of images, so wide is a half of the grid at most: large images are shown at their own size
)
# The first picture of the page: as wide as a phone shows, and as high as a screen.
_LOOK_PIXELS, _LOOK_COLUMNS, _LOOK_CLASSES, _LOOK_BYTES = 330, 6, 10, 120_000
_OTHER_STRIP_BYTES = 70_000
# Rows and columns of a class's gallery, on each side: the first that fits into its bytes.
_GALLERIES = ((3, 6), (2, 6), (1, 6), (1, 3))


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
    columns = min(
        columns,
        int(real.counts().min()),
        int(synthetic.counts().min()),
        max(_GRID_PIXELS // (real.images.shape[3] + _GAP), 2),
    )
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


def first_look(results: Results, budget_results: BudgetResults) -> Picture:
    """Real images beside synthetic ones, a row per class, as wide as a phone: what the page shows first."""
    real, first = results.train, budget_results.replicates[0]
    shown = min(real.num_classes, _LOOK_CLASSES)
    size = real.images.shape[3]
    columns = max(1, min(_LOOK_PIXELS // (2 * (size + _GAP)), _LOOK_COLUMNS))
    blocks = []
    for side in (real, first.synthetic):
        rows = [_in_rows(_shown(side.images[side.labels == label]), 1, columns) for label in range(shown)]
        blocks.append(charts.tiles(np.concatenate(rows), _GAP))
    gap = np.zeros((len(blocks[0]), 6 * _GAP, 4), dtype=np.uint8)
    picture = np.concatenate([blocks[0], gap, blocks[1]], axis=1)
    zoom = max(1, _LOOK_PIXELS // picture.shape[1])
    names = ", ".join(charts.short(name) for name in real.class_names[:shown])
    pool = first.synthetic.provenance.get("pool_images")
    beside = f" and {pool} images of the pool with pseudo-labels" if pool else ""
    return Picture(
        png_uri(png_of_pixels(Image.fromarray(picture)), _LOOK_BYTES),
        f"{columns} real images (left) and {columns} synthetic ones (right) of each of the classes {names}.",
        zoom * picture.shape[1],
        f"Left real, right synthetic, a row per class: the first images, not picked. The generator learned from"
        f" {budget_results.budget} real images{beside}.",
    )


def class_galleries(results: Results, budget_results: BudgetResults, *, most_bytes: int) -> list[Picture]:
    """Of each class real images beside synthetic ones, at their own size; fewer where they need more bytes.

    Args:
        results: of the study.
        budget_results: of the budget.
        most_bytes: of all galleries together.
    """
    real, first = results.train, budget_results.replicates[0]
    found = []
    for label, name in enumerate(results.class_names):
        sides = [_shown(images.images[images.labels == label]) for images in (real, first.synthetic)]
        for rows, columns in _GALLERIES:
            blocks = [charts.tiles(_in_rows(side, rows, columns), _GAP) for side in sides]
            gap = np.zeros((len(blocks[0]), 6 * _GAP, 4), dtype=np.uint8)
            picture = np.concatenate([blocks[0], gap, blocks[1]], axis=1)
            data = png_of_pixels(Image.fromarray(picture))
            if len(data) <= most_bytes // len(results.class_names):
                break
        found.append(
            Picture(
                png_uri(data, most_bytes // len(results.class_names)),
                f"{name}: {rows * columns} real images (left) and as many synthetic ones (right).",
                _zoom(real.images.shape[2]) * picture.shape[1],
                f"{charts.short(name)}: real left, synthetic right.",
            )
        )
    return found


def film_strips(budget_results: BudgetResults, figures: Path, *, most_bytes: int) -> list[Picture]:
    """The same latents over the training of each replicate: the first at its own size, the others smaller."""
    pictures: list[Picture] = []
    for replicate_results in budget_results.replicates:
        replicate, strip = replicate_results.number, replicate_results.film_strip
        with atomic_output(figures / f"film_strip_{budget_results.budget}_{replicate}.png") as temporary:
            temporary.write_bytes(strip)
        with Image.open(io.BytesIO(strip)) as image:
            width = image.width
        pictures.append(
            Picture(
                png_uri(strip, min(most_bytes, _OTHER_STRIP_BYTES) if pictures else most_bytes),
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
                _zoom(len(picture)) * picture.shape[1],
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
    image: npt.NDArray[np.uint8] = _shown(images.images[index : index + 1])[0]
    return image


def _shown(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(N, C, H, W) as pictures are drawn: (N, H, W), or (N, H, W, 3) in colour."""
    return images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)


def _zoom(height: int) -> int:
    """Screen pixels for a pixel of an image of this height: a whole number, so that each is seen."""
    return max(1, -(-_PAIR_SIZE // height))


def _in_rows(images: npt.NDArray[np.uint8], rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """(rows, columns, …): the first images; black where there are fewer."""
    filled = np.zeros((rows * columns, *images.shape[1:]), dtype=np.uint8)
    filled[: len(images)] = images[: rows * columns]
    return filled.reshape(rows, columns, *images.shape[1:])


def _beside(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    gap = np.full((len(left), _GAP, *left.shape[2:]), 128, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def _enlarged(picture: npt.NDArray[np.uint8]) -> str:
    zoom = _zoom(len(picture))
    data = png_of_pixels(Image.fromarray(picture.repeat(zoom, axis=0).repeat(zoom, axis=1)))
    return png_uri(data, len(data))


def _first_per_class(images: LabeledImages, columns: int) -> npt.NDArray[np.uint8]:
    """(classes, columns, H, W), in colour (…, 3): the first images of each class."""
    return np.stack(
        [_shown(images.images[images.labels == label][:columns]) for label in range(images.num_classes)]
    )
