"""Pictures of results: each function takes plain data and returns a Matplotlib figure.

Colours are from the Okabe–Ito palette, which colour-blind readers can tell apart, and every line has its own
marker as well. A figure has a background of its own, light or dark, so that it reads on any page.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure

from pipeline.evaluation.statistics import mean_interval
from pipeline.runtime import atomic_output


@dataclass(frozen=True)
class Theme:
    """The colours of a figure: background, ink, faint lines, and four that mean something."""

    background: str
    ink: str
    faint: str
    none: str
    affine: str
    elastic: str
    only: str


LIGHT = Theme(
    "#ffffff", "#24292f", "#d5dae0", none="#0072b2", affine="#d55e00", elastic="#b0579a", only="#009e73"
)
DARK = Theme(
    "#161b22", "#dde3ea", "#3a424c", none="#56b4e9", affine="#e69f00", elastic="#d48ab8", only="#2bc49a"
)

_WIDTH = 5.2  # inches: on a phone, the 10-point text of a figure this wide can still be read
_MAX_NAME = 24


@dataclass(frozen=True)
class _Line:
    """One line of the ratio curve: its arms from ratio 0 on, and how it looks."""

    augmentation: str
    arms: tuple[str, ...]
    colour: str
    marker: str
    shift: float  # to the side, so that dots and bands of two lines do not cover each other
    words: str


_MIXED_LINES = (
    _Line("none", ("real", "synthetic"), "none", "o", -0.09, "no augmentation"),
    _Line("affine", ("real_affine", "synthetic_affine"), "affine", "s", 0.0, "affine"),
    _Line(
        "affine_elastic",
        ("real_affine_elastic", "synthetic_affine_elastic"),
        "elastic",
        "D",
        0.12,
        "affine + elastic",
    ),
)
_AUGMENTATION_WORDS = {"none": "none", "affine": "affine", "affine_elastic": "affine + elastic"}
_ONLY_LINE = (_Line("none", ("synthetic_only",), "only", "^", 0.0, "synthetic only"),)

Rows = Sequence[Mapping[str, Any]]


def ratio_curve(cells: pd.DataFrame, arms: Rows, *, theme: Theme) -> Figure:
    """Test accuracy against synthetic images per real one, a panel per budget and a line per augmentation.

    Lines are means over replicates, bands their intervals, dots the replicates. Classifiers that saw only
    synthetic images have a panel of their own below, on its own scale: they lie too far down for a common
    one. The ratios stand side by side at even distances.

    Args:
        cells: one row per cell: `budget` (text), `arm, synthetic_per_real, test_accuracy` (fraction).
        arms: one per arm: `budget, arm, synthetic_per_real, test_accuracy` and its `_low` and `_high`
            (null with one replicate).
        theme: LIGHT or DARK.
    """
    budgets = list(dict.fromkeys(row["budget"] for row in arms))
    ratios = sorted({row["synthetic_per_real"] for row in arms})
    panels = 2 if any(row["arm"] == "synthetic_only" for row in arms) else 1
    with _style(theme):
        figure = Figure(figsize=(_WIDTH, 1.2 + (1.6 + 1.7 * panels) * len(budgets)), layout="constrained")
        rows = figure.subfigures(len(budgets), 1, squeeze=False)[:, 0]
        for budget, part in zip(budgets, rows, strict=True):
            dots = cells[cells["budget"] == str(budget)]
            means = [row for row in arms if row["budget"] == budget]
            axes = part.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=[3, 1.1][:panels])[:, 0]
            _accuracy_lines(axes[0], dots, means, ratios, _MIXED_LINES, theme)
            lines = len(axes[0].get_legend_handles_labels()[1])
            # Three names leave the title no room beside them.
            axes[0].set_title(f"{budget} real images", loc="left", pad=26 if lines > 2 else None)
            axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=lines, borderaxespad=0.2)
            if panels == 2:
                _accuracy_lines(axes[1], dots, means, ratios, _ONLY_LINE, theme)
                axes[1].set_title("synthetic images only (scale of its own)", loc="left")
            axes[-1].set_xticks(
                range(len(ratios)), [f"{ratio}\nreal only" if ratio == 0 else str(ratio) for ratio in ratios]
            )
            axes[-1].set_xlim(-0.35, len(ratios) - 0.65)
            axes[-1].set_xlabel("synthetic images per real image")
            part.supylabel("test accuracy (%)", fontsize=10)
        return figure


def differences(comparisons: Rows, *, theme: Theme) -> Figure:
    """Paired change of test accuracy by adding synthetic images: mean, interval and replicates, per ratio.

    Args:
        comparisons: one per comparison: `budget, synthetic_per_real, classic_augmentation, mean_difference,
            low, high` (fractions; null with one replicate), and `differences`, one per replicate.
        theme: LIGHT or DARK.
    """
    with _style(theme):
        figure = Figure(figsize=(_WIDTH, 1.2 + 0.36 * len(comparisons)), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(comparisons):
            line = next(line for line in _MIXED_LINES if line.augmentation == row["classic_augmentation"])
            colour = getattr(theme, line.colour)
            if row["low"] is not None:
                axes.plot([100 * row["low"], 100 * row["high"]], [y, y], color=colour, linewidth=2.5)
            axes.plot(100 * row["mean_difference"], y, line.marker, color=colour, markersize=7)
            replicates = 100 * np.asarray(row["differences"])
            axes.plot(replicates, np.full(len(replicates), y + 0.28), ".", color=colour, alpha=0.7)
        _horizontal(
            axes,
            [
                f"{row['budget']} real, {_AUGMENTATION_WORDS[row['classic_augmentation']]},"
                f" + {row['synthetic_per_real']}"
                for row in comparisons
            ],
            [100 * value for row in comparisons for value in row["differences"]],
            [100 * end for row in comparisons for end in (row["low"], row["high"]) if end is not None],
            theme,
        )
        axes.set_xlabel("change of test accuracy\n(percentage points)")
        return figure


def confusion_matrix(
    counts: npt.NDArray[np.int64], class_names: Sequence[str], title: str, *, theme: Theme
) -> Figure:
    """Actual against predicted classes: counts, shaded by their share of the row.

    The shade grows with the share to the power 0.4, else a one-percent confusion would be invisible.

    Args:
        counts: (classes, classes), rows are actual, columns predicted.
        class_names: in the order of rows and columns.
        title: whose predictions they are.
        theme: LIGHT or DARK.
    """
    number = len(class_names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    norm = PowerNorm(0.4, 0, 1)
    names = [_short(name) for name in class_names]
    with _style(theme):
        size = max(4.2, 0.38 * number + 1) if number <= 20 else 8.0
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.subplots()
        colours = LinearSegmentedColormap.from_list("shares", [theme.background, theme.none])
        axes.imshow(shares, cmap=colours, norm=norm)
        if number <= 20:  # more would not be legible
            digits = len(str(counts.max()))
            for actual, predicted in np.argwhere(counts):
                dark_cell = norm(shares[actual, predicted]) > 0.55
                axes.text(
                    predicted,
                    actual,
                    str(counts[actual, predicted]),
                    ha="center",
                    va="center",
                    fontsize=min(9.0, 34 / max(digits, 3)),
                    color=theme.background if dark_cell else theme.ink,
                )
        turned = max(map(len, names)) > 3
        axes.set_xticks(range(number), names, rotation=90 if turned else 0, fontsize=9 if number <= 20 else 6)
        axes.set_yticks(range(number), names, fontsize=9 if number <= 20 else 6)
        axes.set_xlabel("predicted")
        axes.set_ylabel("actual")
        axes.set_title(title, loc="left")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        return figure


def gan_curves(history: pd.DataFrame, *, theme: Theme) -> Figure:
    """Training of a budget's GANs: losses, discriminator accuracy, label fidelity; the mean is thick.

    Args:
        history: `replicate, step, images_seen, d_loss, g_loss, d_accuracy, label_fidelity_1nn`; a measurement
            may be missing in a row.
        theme: LIGHT or DARK.
    """
    panels = (
        ("loss", (("d_loss", theme.none, "discriminator"), ("g_loss", theme.affine, "generator")), None),
        ("D accuracy (%)", (("d_accuracy", theme.none, None),), 50),
        ("label fidelity,\n1-NN (%)", (("label_fidelity_1nn", theme.only, None),), 100),
    )
    with _style(theme):
        figure = Figure(figsize=(_WIDTH, 6.2), layout="constrained")
        for axes, (words, columns, reference) in zip(figure.subplots(3, 1, sharex=True), panels, strict=True):
            for column, colour, label in columns:
                known = history.dropna(subset=[column])
                scale = 1 if column.endswith("loss") else 100
                for _, rows in known.groupby("replicate"):
                    axes.plot(
                        rows["images_seen"] / 1000,
                        scale * rows[column],
                        color=colour,
                        linewidth=0.7,
                        alpha=0.5,
                    )
                mean = known.groupby("images_seen")[column].mean()
                axes.plot(mean.index / 1000, scale * mean, color=colour, linewidth=2, label=label)
            if reference is not None:
                axes.axhline(reference, color=theme.ink, linewidth=0.8, linestyle=(0, (4, 4)))
            axes.set_ylabel(words)
            if len(columns) > 1:
                axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
        axes.set_xlabel("real images shown to the discriminator (thousands)")
        figure.align_ylabels()
        return figure


def loss_heat_maps(values: Mapping[str, pd.DataFrame], *, theme: Theme) -> Figure:
    """A heat map per loss: one row per learning rate, one column per look at the training, on one scale each.

    Args:
        values: title → table; rows are named by learning rate, columns by epoch, cells are losses. A cell without
            a value (NaN) stays empty.
        theme: LIGHT or DARK.
    """
    with _style(theme):
        rows = max(len(table) for table in values.values())
        height = (0.9 + 0.32 * rows) * len(values)
        figure = Figure(figsize=(_WIDTH * 1.4, height), layout="constrained")
        panels = figure.subplots(len(values), 1, squeeze=False)[:, 0]
        for axes, (title, table) in zip(panels, values.items(), strict=True):
            image = axes.imshow(table.to_numpy(dtype=np.float64), cmap="viridis", aspect="auto")
            shown = np.unique(np.linspace(0, table.shape[1] - 1, min(table.shape[1], 11)).astype(int))
            axes.set_xticks(shown, [f"{float(table.columns[i]):g}" for i in shown])
            axes.set_yticks(range(len(table)), [str(name) for name in table.index])
            axes.set_title(title, loc="left")
            axes.set_xlabel("epoch")
            axes.grid(False)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            bar = figure.colorbar(image, ax=axes, pad=0.02)
            bar.outline.set_visible(False)
        return figure


def sample_grid(
    real: npt.NDArray[np.uint8], synthetic: npt.NDArray[np.uint8], class_names: Sequence[str], *, theme: Theme
) -> Figure:
    """Real images left, synthetic ones right, a row per class; a pixel becomes a whole number of pixels.

    Args:
        real: (classes, columns, H, W) uint8.
        synthetic: the same shape.
        class_names: one per row.
        theme: LIGHT or DARK.
    """
    classes, columns, height, width = real.shape
    gap = 2
    zoom = max(1, round(56 / width))
    left, head, edge = 22 + 13 * max(len(_short(name)) for name in class_names), 48, 12  # pixels
    block_width, block_height = columns * (width + gap) * zoom, classes * (height + gap) * zoom
    total_width, total_height = left + 2 * (block_width + edge) + edge, head + block_height + edge
    with _style(theme):
        dpi = 100
        figure = Figure(figsize=(total_width / dpi, total_height / dpi), dpi=dpi)
        for x, images, words in (
            (left, real, "real"),
            (left + block_width + 2 * edge, synthetic, "synthetic"),
        ):
            axes = figure.add_axes(
                (x / total_width, edge / total_height, block_width / total_width, block_height / total_height)
            )
            axes.imshow(_tiles(images, gap), interpolation="nearest", aspect="auto")
            axes.set_title(words, loc="left", fontsize=16, pad=8)
            axes.axis("off")
            if x == left:
                for row, name in enumerate(class_names):
                    y = (row + 0.5) * (height + gap) - gap / 2
                    axes.text(-6 / zoom, y, _short(name), ha="right", va="center", fontsize=14)
        return figure


def f1_differences(values: npt.NDArray[np.float64], class_names: Sequence[str], *, theme: Theme) -> Figure:
    """Paired change of each class's F1: a bar for the mean, a line for its interval, a dot per replicate.

    Args:
        values: (replicates, classes) differences of fractions.
        class_names: in the order of the columns.
        theme: LIGHT or DARK.
    """
    intervals = [mean_interval(100 * column) for column in values.T]
    with _style(theme):
        figure = Figure(figsize=(_WIDTH, 1.2 + 0.32 * len(class_names)), layout="constrained")
        axes = figure.subplots()
        for y, interval in enumerate(intervals):
            colour = theme.none if interval.mean >= 0 else theme.affine
            axes.barh(y, interval.mean, height=0.7, color=colour, alpha=0.45)
            if interval.low is not None and interval.high is not None:
                axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=2)
            axes.plot(100 * values[:, y], np.full(len(values), y), ".", color=theme.ink)
        ends = [end for interval in intervals for end in (interval.low, interval.high) if end is not None]
        _horizontal(axes, [_short(name) for name in class_names], [*(100 * values).flat], ends, theme)
        axes.set_xlabel("change of F1 (percentage points)")
        return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write `path` with the endings .svg and .png; the same figure gives the same bytes."""
    for format in ("svg", "png"):
        with atomic_output(path.with_name(f"{path.name}.{format}")) as temporary:
            temporary.write_bytes(figure_bytes(figure, format))
        figure.set_layout_engine("none")  # laid out by now; once more would take as long as all the rest


def figure_bytes(figure: Figure, format: str) -> bytes:
    """The bytes of a picture file: no date, no version, no random ids.

    Args:
        figure: what one of the functions here returned.
        format: svg or png.
    """
    buffer = io.BytesIO()
    # Style: for the settings that are read at saving; colours are in the figure.
    with _style(LIGHT), warnings.catch_warnings():
        # The font of a PNG has no Chinese; the reader's fonts show an SVG's text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        metadata = {"Date": None} if format == "svg" else {"Software": None}
        figure.savefig(buffer, format=format, metadata=metadata)
    return buffer.getvalue()


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    """Settings of this module on top of Matplotlib's own defaults, whatever the user's are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "figure.facecolor": theme.background,
                "figure.dpi": 144,
                "savefig.dpi": "figure",
                "axes.facecolor": theme.background,
                "axes.edgecolor": theme.ink,
                "axes.labelcolor": theme.ink,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "axes.grid.axis": "y",
                "axes.axisbelow": True,
                "axes.titlesize": 11,
                "axes.titleweight": "bold",
                "figure.constrained_layout.w_pad": 0.1,
                "figure.constrained_layout.h_pad": 0.1,
                "font.size": 10,
                "grid.color": theme.faint,
                "legend.columnspacing": 1.2,
                "legend.frameon": False,
                "legend.handlelength": 1.6,
                "text.color": theme.ink,
                "text.parse_math": False,  # a class may be called $x$
                "xtick.color": theme.ink,
                "ytick.color": theme.ink,
                "svg.fonttype": "none",  # text can be searched, and the reader's fonts know every script
                "svg.hashsalt": "synthgain",
            }
        )
        yield


def _accuracy_lines(
    axes: Axes,
    cells: pd.DataFrame,
    arms: Rows,
    ratios: Sequence[float],
    lines: Sequence[_Line],
    theme: Theme,
) -> None:
    """One panel of the ratio curve."""
    names = [name for line in lines for name in line.arms]
    means = [row for row in arms if row["arm"] in names]
    for line in lines:
        colour = getattr(theme, line.colour)
        points = [row for ratio in ratios for row in means if _is_at(row, line, ratio)]
        if not points:
            continue  # study.arms has no such arm
        x = np.array([ratios.index(row["synthetic_per_real"]) for row in points]) + line.shift
        if points[0]["test_accuracy_low"] is not None:
            low, high = ([100 * row[f"test_accuracy_{end}"] for row in points] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        y = [100 * row["test_accuracy"] for row in points]
        axes.plot(x, y, line.marker, linestyle="-", color=colour, linewidth=2, markersize=7, label=line.words)
        for row, at in zip(points, x, strict=True):
            found = (cells["arm"] == row["arm"]) & (cells["synthetic_per_real"] == row["synthetic_per_real"])
            dots = 100 * cells.loc[found, "test_accuracy"].to_numpy()
            beside = -0.07 if line.shift < 0 else 0.07
            axes.plot(np.full(len(dots), at + beside), dots, ".", color=colour, alpha=0.7)
    ends = [row[f"test_accuracy_{end}"] for row in means for end in ("low", "high")]
    dots = 100 * cells.loc[cells["arm"].isin(names), "test_accuracy"].to_numpy()
    bottom, top = _limits([*dots], [100 * end for end in ends if end is not None])
    axes.set_ylim(bottom, min(top, 100 + 0.03 * (top - bottom)))


def _is_at(row: Mapping[str, Any], line: _Line, ratio: float) -> bool:
    return row["arm"] in line.arms and row["synthetic_per_real"] == ratio


def _horizontal(
    axes: Axes, labels: Sequence[str], values: Sequence[float], ends: Sequence[float], theme: Theme
) -> None:
    """Rows from top to bottom around a zero line."""
    axes.axvline(0, color=theme.ink, linewidth=1, zorder=1)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(*_limits([*values, 0.0], ends))
    axes.locator_params(axis="x", nbins=5)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.tick_params(left=False)


def _limits(values: Sequence[float], ends: Sequence[float]) -> tuple[float, float]:
    """Limits that hold all values, and intervals as far as they leave the values half of the room.

    The interval of two replicates is 18 times as wide as their standard deviation: it would hide all else.
    """
    low, high = min(values), max(values)
    room = max(high - low, 0.2)
    bottom = max(min([low, *ends]), low - 0.5 * room)
    top = min(max([high, *ends]), high + 0.5 * room)
    margin = 0.06 * (top - bottom) or 0.1
    return bottom - margin, top + margin


def _tiles(images: npt.NDArray[np.uint8], gap: int) -> npt.NDArray[np.uint8]:
    """(classes, columns, H, W) grey images as one (rows, columns, 4) picture with see-through gaps."""
    classes, columns, height, width = images.shape
    canvas = np.zeros((classes, height + gap, columns, width + gap, 4), dtype=np.uint8)
    canvas[:, :height, :, :width, :3] = images.transpose(0, 2, 1, 3)[..., None]
    canvas[:, :height, :, :width, 3] = 255
    return canvas.reshape(classes * (height + gap), columns * (width + gap), 4)


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
