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

from pipeline.runtime.outputs import atomic_output
from pipeline.statistics import mean_interval
from pipeline.study.arms import ARMS, Arm


@dataclass(frozen=True)
class Theme:
    """The colours of a figure: background, ink, faint lines, four that mean something, and more for other arms."""

    background: str
    ink: str
    faint: str
    none: str
    affine: str
    elastic: str
    only: str
    fifth: str
    sixth: str
    seventh: str


LIGHT = Theme(
    "#ffffff",
    "#24292f",
    "#d5dae0",
    none="#0072b2",
    affine="#d55e00",
    elastic="#b0579a",
    only="#009e73",
    fifth="#7a6400",
    sixth="#5a4fcf",
    seventh="#757b82",
)
DARK = Theme(
    "#161b22",
    "#dde3ea",
    "#3a424c",
    none="#56b4e9",
    affine="#e69f00",
    elastic="#d48ab8",
    only="#2bc49a",
    fifth="#f0e442",
    sixth="#a9a4ff",
    seventh="#9aa5b1",
)

_WIDTH = 5.2  # inches: on a phone, the 10-point text of a figure this wide can still be read
_MAX_NAME = 24
_SHORT_NAME = 16  # letters of a name that has two others beside it


@dataclass(frozen=True)
class Line:
    """One line of the ratio curve: its arms from ratio 0 on, and how it looks."""

    augmentation: str
    arms: tuple[str, ...]
    colour: str
    marker: str
    shift: float  # to the side, so that dots and bands of two lines do not cover each other
    words: str


_MIXED_LINES = (
    Line("none", ("real", "synthetic"), "none", "o", -0.09, "no augmentation"),
    Line("affine", ("real_affine", "synthetic_affine"), "affine", "s", 0.0, "affine"),
    Line(
        "affine_elastic",
        ("real_affine_elastic", "synthetic_affine_elastic"),
        "elastic",
        "D",
        0.12,
        "affine + elastic",
    ),
)
AUGMENTATION_WORDS = {"none": "none", "affine": "affine", "affine_elastic": "affine + elastic"}
_ONLY_LINE = (Line("none", ("synthetic_only",), "only", "^", 0.0, "synthetic only"),)

_OTHER_COLOURS = ("fifth", "sixth", "seventh")
_OTHER_MARKERS = ("v", "P", "X")

Rows = Sequence[Mapping[str, Any]]


def mixed_lines(arms: Rows) -> list[Line]:
    """The lines of real and synthetic images: one per augmentation, and one for each other arm of that kind.

    Args:
        arms: one per arm and ratio: `arm`, as in `study.arms`.
    """
    drawn = {name for line in _MIXED_LINES for name in line.arms}
    others = [
        ARMS[name]
        for name in dict.fromkeys(row["arm"] for row in arms)
        if name not in drawn and is_mixed(ARMS[name])
    ]
    return [
        *(line for line in _MIXED_LINES if any(row["arm"] in line.arms for row in arms)),
        *(
            Line(
                arm.policy,
                (*([arm.baseline] if arm.baseline else []), arm.name),
                _OTHER_COLOURS[place % 3],
                _OTHER_MARKERS[(place + place // 3) % 3],  # nine looks before one comes again
                0.2 + 0.06 * place,
                arm_words(arm.name),
            )
            for place, arm in enumerate(others)
        ),
    ]


def is_mixed(arm: Arm) -> bool:
    """Whether an arm has a place on the ratio curve: it adds synthetic images at a ratio, to every class."""
    return arm.uses_real and arm.uses_synthetic and not arm.rare_only


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
    # Short names stand three in a row of the legend, longer ones below each other.
    names = [line.words for line in mixed_lines(arms)]
    columns = 3 if all(len(name) <= _SHORT_NAME for name in names) else 1
    above = -(-len(names) // columns)  # rows of names
    with _style(theme):
        height = 1.2 + (1.6 + 1.7 * panels + 0.25 * max(above - 1, 0)) * len(budgets)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        rows = figure.subfigures(len(budgets), 1, squeeze=False)[:, 0]
        for budget, part in zip(budgets, rows, strict=True):
            dots = cells[cells["budget"] == str(budget)]
            means = [row for row in arms if row["budget"] == budget]
            axes = part.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=[3, 1.1][:panels])[:, 0]
            _accuracy_lines(axes[0], dots, means, ratios, mixed_lines(means), theme)
            lines = len(axes[0].get_legend_handles_labels()[1])
            # Three names leave the title no room beside them.
            axes[0].set_title(f"{budget} real images", loc="left", pad=8 + 18 * above if lines > 2 else None)
            axes[0].legend(
                loc="lower right", bbox_to_anchor=(1, 1), ncols=min(lines, columns), borderaxespad=0.2
            )
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
        comparisons: one per comparison: `budget, candidate, synthetic_per_real, classic_augmentation,
            mean_difference, low, high` (fractions; null with one replicate), and `differences`, one per
            replicate.
        theme: LIGHT or DARK.
    """
    with _style(theme):
        figure = Figure(figsize=(_WIDTH, 1.2 + 0.36 * len(comparisons)), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(comparisons):
            line = line_of(row["candidate"])
            colour = getattr(theme, line.colour)
            if row["low"] is not None:
                axes.plot([100 * row["low"], 100 * row["high"]], [y, y], color=colour, linewidth=2.5)
            axes.plot(100 * row["mean_difference"], y, line.marker, color=colour, markersize=7)
            replicates = 100 * np.asarray(row["differences"])
            axes.plot(replicates, np.full(len(replicates), y + 0.28), ".", color=colour, alpha=0.7)
        _horizontal(
            axes,
            [difference_words(row) for row in comparisons],
            [100 * value for row in comparisons for value in row["differences"]],
            [100 * end for row in comparisons for end in (row["low"], row["high"]) if end is not None],
            theme,
        )
        axes.set_xlabel("change of test accuracy\n(percentage points)")
        return figure


def line_of(candidate: str) -> Line:
    """How an arm with synthetic images is drawn, by its name."""
    for line in _MIXED_LINES:
        if candidate in line.arms:
            return line
    return mixed_lines([{"arm": candidate}])[0]


def difference_words(row: Mapping[str, Any]) -> str:
    """Which comparison it is, as `1000 real, affine, + 0.5`."""
    known = any(row["candidate"] in line.arms for line in _MIXED_LINES)
    what = AUGMENTATION_WORDS[row["classic_augmentation"]] if known else arm_words(row["candidate"])
    return f"{row['budget']} real, {what}, + {row['synthetic_per_real']}"


def low_data_curve(points: pd.DataFrame, dots: pd.DataFrame, *, theme: Theme) -> Figure:
    """Test accuracy against the number of real images (logarithmic), a line per kind of arm.

    Args:
        points: `line, budget, real_images, mean, low, high` in percent; low and high are NaN with one replicate.
        dots: `line, real_images, value` in percent, one row per replicate.
        theme: LIGHT or DARK.
    """
    with _style(theme):
        figure = Figure(figsize=(_WIDTH, 4.4), layout="constrained")
        axes = figure.subplots()
        budgets = points.drop_duplicates("real_images").sort_values("real_images")
        for (name, rows), look in zip(points.groupby("line", sort=False), LOW_DATA_LOOKS, strict=False):
            colour, marker, shift = getattr(theme, look[0]), look[1], 1 + look[2]
            x = rows["real_images"].to_numpy() * shift
            axes.fill_between(x, rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
            axes.plot(x, rows["mean"], f"{marker}-", color=colour, linewidth=2, markersize=7, label=name)
            of_line = dots[dots["line"] == name]
            axes.plot(of_line["real_images"] * shift * 1.02, of_line["value"], ".", color=colour, alpha=0.7)
        ends = points[["low", "high"]].to_numpy().ravel()
        bottom, top = limits([*dots["value"]], [*ends[np.isfinite(ends)]])
        axes.set_ylim(bottom, min(top, 100 + 0.03 * (top - bottom)))
        axes.set_xscale("log")
        axes.set_xticks(budgets["real_images"].tolist(), [str(budget) for budget in budgets["budget"]])
        axes.minorticks_off()
        axes.set_xlabel("real images (logarithmic)")
        axes.set_ylabel("test accuracy (%)")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
        return figure


# Of the lines of the low-data curve, in their order: colour, marker, and a factor to the side.
LOW_DATA_LOOKS = (
    ("none", "o", -0.03),
    ("affine", "s", 0.0),
    ("elastic", "D", 0.03),
    ("only", "^", 0.06),
)


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
    names = [short(name) for name in class_names]
    with _style(theme):
        figure, axes = _matrix_axes(number)
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
        _name_matrix(axes, names, title)
        return figure


def confusion_difference(
    change: npt.NDArray[np.int64], class_names: Sequence[str], title: str, *, theme: Theme
) -> Figure:
    """What changed between two confusion matrices: blue where it got better, orange where it got worse.

    Better is more on the diagonal and less beside it. The shade is relative to the largest change.

    Args:
        change: (classes, classes) counts of one arm minus those of the other; rows are actual classes.
        class_names: in the order of rows and columns.
        title: whose predictions they are.
        theme: LIGHT or DARK.
    """
    number = len(class_names)
    better = better_shares(change)
    with _style(theme):
        figure, axes = _matrix_axes(number)
        colours = LinearSegmentedColormap.from_list("change", [theme.affine, theme.background, theme.none])
        axes.imshow(better, cmap=colours, vmin=-1, vmax=1)
        if number <= 20:
            digits = max(len(f"{value:+d}") for value in change.flat)
            for actual, predicted in np.argwhere(change):
                axes.text(
                    predicted,
                    actual,
                    f"{change[actual, predicted]:+d}".replace("-", "−"),
                    ha="center",
                    va="center",
                    fontsize=min(9.0, 34 / max(digits, 3)),
                    color=theme.background if abs(better[actual, predicted]) > 0.55 else theme.ink,
                )
        _name_matrix(axes, [short(name) for name in class_names], title)
        return figure


def better_shares(change: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(classes, classes) in −1..1: how much better (above 0) or worse a cell got, by the root of its share."""
    signs = 2 * np.eye(len(change)) - 1
    shares: npt.NDArray[np.float64] = signs * change / max(int(np.abs(change).max()), 1)
    return np.sign(shares) * np.sqrt(np.abs(shares))


def gan_curves(history: pd.DataFrame, *, theme: Theme) -> Figure:
    """Training of a budget's GANs: losses, discriminator accuracy, label fidelity; the mean is thick.

    Args:
        history: `replicate, step, images_seen, d_loss, g_loss, d_accuracy, label_fidelity_1nn`; a measurement
            may be missing in a row.
        theme: LIGHT or DARK.
    """
    panels = gan_panels(history, theme)
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
                axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(columns), borderaxespad=0.2)
        axes.set_xlabel("real images shown to the discriminator (thousands)")
        figure.align_ylabels()
        return figure


def gan_panels(
    history: pd.DataFrame, theme: Theme
) -> list[tuple[str, list[tuple[str, str, str | None]], int | None]]:
    """The panels of a training's curves: title, (column, colour, name) of each line, and a line at a percentage."""
    accuracies: list[tuple[str, str, str | None]] = [
        ("d_accuracy", theme.none, "pairs"),
        ("d_accuracy_real", theme.only, "real"),
        ("d_accuracy_fake", theme.affine, "fake"),
    ]
    known = [line for line in accuracies if line[0] in history]
    return [
        ("loss", [("d_loss", theme.none, "discriminator"), ("g_loss", theme.affine, "generator")], None),
        ("D accuracy (%)", known if len(known) > 1 else [("d_accuracy", theme.none, None)], 50),
        ("label fidelity,\n1-NN (%)", [("label_fidelity_1nn", theme.only, None)], 100),
    ]


def pair_gallery(pairs: Sequence[tuple[npt.NDArray[np.uint8], str]], *, theme: Theme) -> Figure:
    """Closest pairs, six a row: each a synthetic image beside its nearest training image, and words below.

    Args:
        pairs: picture (H, 2·W + gap) uint8 and words of each.
        theme: LIGHT or DARK.
    """
    columns = 6
    rows = -(-len(pairs) // columns)
    with _style(theme):
        figure = Figure(figsize=(1.6 * columns, 1.25 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels:
            axes.axis("off")
        for axes, (picture, words) in zip(panels, pairs, strict=False):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_title(words, fontsize=8, fontweight="normal")
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
            axes.set_xticks(shown, [f"{float(table.columns[i]):.3g}" for i in shown])
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
    left, head, edge = 22 + 13 * max(len(short(name)) for name in class_names), 48, 12  # pixels
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
                    axes.text(-6 / zoom, y, short(name), ha="right", va="center", fontsize=14)
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
        _horizontal(axes, [short(name) for name in class_names], [*(100 * values).flat], ends, theme)
        axes.set_xlabel("change of F1 (percentage points)")
        return figure


def arm_words(name: str) -> str:
    """An arm in words; one that has none is called by its name."""
    return ARMS[name].words if name in ARMS else name.replace("_", " ")


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
    lines: Sequence[Line],
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
    bottom, top = limits([*dots], [100 * end for end in ends if end is not None])
    axes.set_ylim(bottom, min(top, 100 + 0.03 * (top - bottom)))


def _matrix_axes(number: int) -> tuple[Figure, Axes]:
    size = max(4.2, 0.38 * number + 1) if number <= 20 else 8.0
    figure = Figure(figsize=(size, size), layout="constrained")
    return figure, figure.subplots()


def _name_matrix(axes: Axes, names: Sequence[str], title: str) -> None:
    turned = max(map(len, names)) > 3
    size = 9 if len(names) <= 20 else 6
    axes.set_xticks(range(len(names)), names, rotation=90 if turned else 0, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("actual")
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _is_at(row: Mapping[str, Any], line: Line, ratio: float) -> bool:
    return row["arm"] in line.arms and row["synthetic_per_real"] == ratio


def _horizontal(
    axes: Axes, labels: Sequence[str], values: Sequence[float], ends: Sequence[float], theme: Theme
) -> None:
    """Rows from top to bottom around a zero line."""
    axes.axvline(0, color=theme.ink, linewidth=1, zorder=1)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(*limits([*values, 0.0], ends))
    axes.locator_params(axis="x", nbins=5)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.tick_params(left=False)


def limits(values: Sequence[float], ends: Sequence[float]) -> tuple[float, float]:
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


def short(name: str) -> str:
    """A class name that fits beside a picture."""
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
