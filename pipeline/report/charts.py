"""The charts of the results, each declared once: plain data in, a Matplotlib figure out.

`drawing` makes a PNG, an SVG file and an element of the page from it. What a mark says when it is pointed at is
declared here too. The look of an arm follows from the arm, whatever else a study has.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.augmentation.policies import POLICIES
from pipeline.comparison.texts import percent_interval, points, points_interval
from pipeline.report.drawing import LIGHT, say, stand_in, style, text_width, write
from pipeline.statistics import mean_interval
from pipeline.study.arms import ARMS, Arm, policy_words
from pipeline.study.metric import WORDS, Metric
from pipeline.study.subsets import replicate_numbers

Rows = Sequence[Mapping[str, Any]]

_WIDTH = 4.4  # inches: on a phone, the 10-point text of a figure this wide can still be read
_MATRIX_WIDTH = 4.2  # at least: three of them stand side by side
_MAX_NAME = 24
_MAX_WORDS = 40  # letters of a line of the legend
_MAX_HEADING = 56  # letters of a line over all of the width
_MOST_COUNTS = 20  # classes: more have no counts in their cells
_MOST_POINTS = 40  # of a training's line that say their value


@dataclass(frozen=True)
class Line:
    """A line of the ratio curve: its arms, the one at ratio 0 first, and how it looks."""

    arms: tuple[str, ...]
    colour: str
    marker: str
    words: str


_POLICY_COLOURS, _POLICY_MARKERS = ("blue", "orange", "pink"), ("o", "s", "D", "^", "v")
_MIXED_COLOURS = ("violet", "grey", "olive")
_MIXED_MARKERS = ("P", "X", "v", "d", "p", "H", "8", "^", "h", "o", "s")
_ALONE_MARKERS = ("^", "p", "h")
_CONTROL_COLOURS = ("grey", "violet", "pink", "olive", "blue", "orange", "green")
_CONTROL_MARKERS = ("<", ">", "*")
CONTROLS, SYNTHETIC_ONLY = "controls, upper bound", "synthetic images only"  # the titles of their panels
_POOL_COLOURS, _POOL_MARKERS = ("blue", "orange", "pink"), ("P", "X", "d")
_LOW_DATA_COLOURS, _LOW_DATA_MARKERS = ("blue", "orange", "pink", "green"), ("o", "s", "D", "^")


def _augmentation_lines() -> list[Line]:
    """Of each policy the real images alone, and with synthetic ones: those of the two that the table of arms has."""
    lines = []
    for place, policy in enumerate(POLICIES):
        pair = (Arm("real", policy).name, Arm("real_and_synthetic", policy).name)
        words = "no augmentation" if policy == "none" else policy_words(policy)
        arms = tuple(name for name in pair if name in ARMS)
        if arms:
            lines.append(Line(arms, *_look(place, _POLICY_COLOURS, _POLICY_MARKERS), words))
    return lines


def _look(place: int, colours: Sequence[str], markers: Sequence[str]) -> tuple[str, str]:
    """A colour and a marker: as many looks as there are pairs before one comes again."""
    return colours[place % len(colours)], markers[(place + place // len(colours)) % len(markers)]


def line_of(name: str) -> Line:
    """How an arm is drawn on the ratio curve: always alike, whatever other arms a study has."""
    for line in _augmentation_lines():
        if name in line.arms:
            return line
    arm = ARMS[name]
    arms = (*([arm.baseline] if arm.baseline and arm.uses_real else []), name)
    if not arm.uses_real:
        alone = [other.name for other in ARMS.values() if not other.uses_real]
        return Line(arms, *_look(alone.index(name), ("green",), _ALONE_MARKERS), arm.words)
    if arm.pool:
        place = list(POLICIES).index(arm.policy)  # of those without a ratio too, which no curve shows
        return Line(arms, *_look(place, _POOL_COLOURS, _POOL_MARKERS), arm.words)
    place = _kin(arm).index(name)
    colours, markers = (
        (_MIXED_COLOURS, _MIXED_MARKERS) if arm.adds_synthetic else (_CONTROL_COLOURS, _CONTROL_MARKERS)
    )
    return Line(arms, *_look(place, colours, markers), arm.words)


def ratio_panels(arms: Rows) -> list[tuple[str, list[Line]]]:
    """The panels of a ratio curve, each on a scale of its own: title and lines; those without a line are left out.

    What fills the gap of rare classes, and what learns from the pool alone, has no ratio, and no place here.
    """
    with_ratio = [row["arm"] for row in arms if ARMS[row["arm"]].place not in ("fill", "pool")]
    lines = {line.arms: line for line in (line_of(name) for name in with_ratio if not ARMS[name].rare_only)}
    panels: dict[str, list[Line]] = {"": [], CONTROLS: [], SYNTHETIC_ONLY: []}
    for line in sorted(lines.values(), key=_place):
        added = ARMS[line.arms[-1]]
        if added.adds_synthetic or added.images == "real":
            title = ""
        else:
            title = CONTROLS if added.uses_real else SYNTHETIC_ONLY
        panels[title].append(line)
    return [(title, found) for title, found in panels.items() if found]


@dataclass(frozen=True)
class AnswerRow:
    """A row of the first chart of the page: an arm, what it reaches, and whether it is recommended.

    Attributes:
        words: of the arm.
        colour, marker: how the ratio curve draws it.
        mean: on test, in percent.
        interval: (low, high) in percent; None with one replicate.
        recommended: by the verdict.
    """

    words: str
    colour: str
    marker: str
    mean: float
    interval: tuple[float, float] | None
    recommended: bool


@style()
def answer(groups: Mapping[str, Sequence[AnswerRow]], *, metric: Metric = "accuracy") -> Figure:
    """What answers the question at a glance: the arms without and with synthetic images, mean and interval each.

    Args:
        groups: rows by the words of their budget.
        metric: that decides.
    """
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    y = 0.0
    for words, rows in groups.items():
        if len(groups) > 1:
            _heading(axes, y, words)
            axes.texts[-1].set_fontweight("bold")
            y += 1
        for row in rows:
            text = f"{row.words}: {row.mean:.2f} %{', recommended' if row.recommended else ''}"
            words = "\n".join(textwrap.wrap(text, _MAX_HEADING))
            further = 0.35 * words.count("\n")
            _heading(axes, y + further, words)
            y += 0.85 + 2 * further
            colour, interval = LIGHT[row.colour], "none: one replicate"
            if row.interval is not None:
                axes.plot([*row.interval], [y, y], color=colour, linewidth=2.5)
                interval = f"{row.interval[0]:.2f} to {row.interval[1]:.2f} %"
            (mark,) = axes.plot(row.mean, y, row.marker, color=colour, markersize=8)
            say(mark, [f"{row.words}\nmean {row.mean:.2f} %, interval {interval}"])
            y += 1.05
    every = [row for rows in groups.values() for row in rows]
    ends = [end for row in every for end in row.interval or ()]
    axes.set_xlim(*_accuracy_limits([*(row.mean for row in every), *ends], []))
    axes.set_yticks([])
    axes.set_ylim(y - 0.3, -0.7)
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)
    figure.set_size_inches(_WIDTH, 0.9 + 0.24 * y)
    figure.supxlabel(f"test {WORDS[metric]} (%)", fontsize=10)
    return figure


@style()
def ratio_curve(cells: pd.DataFrame, arms: Rows, *, metric: Metric = "accuracy") -> Figure:
    """A metric on test of one budget against synthetic images per real one, a line per augmentation or arm.

    Lines are means over replicates, bands their intervals, dots the replicates. Controls have a panel of their own,
    and so have classifiers that saw only synthetic images: they lie too far down for a common scale. The ratios
    stand side by side at even distances.

    Args:
        cells: one row per cell: `arm, synthetic_per_real, replicate, test_<metric>` (fraction).
        arms: one per arm: `budget, arm, synthetic_per_real, test_<metric>` and its `_low` and `_high`
            (null with one replicate).
        metric: that decides.
    """
    ratios = sorted({row["synthetic_per_real"] for row in arms})
    panels = ratio_panels(arms)
    heights = [2.7, *(1.5 for _ in panels[1:])]
    above = [_legend_rows([line.words for line in lines]) for _, lines in panels]
    figure = Figure(
        figsize=(_WIDTH, 0.9 + sum(heights) + sum(0.3 + 0.19 * rows for rows in above)), layout="constrained"
    )
    panes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, lines) in zip(panes, panels, strict=True):
        _metric_lines(axes, lines, cells, arms, ratios, f"test_{metric}")
        _title(axes, f"{title} (own scale)" if title else f"{arms[0]['budget']} real images")
        axes.set_ylabel(f"test {WORDS[metric]} (%)")
    panes[-1].set_xticks(
        range(len(ratios)), [f"{ratio}\nreal only" if ratio == 0 else str(ratio) for ratio in ratios]
    )
    panes[-1].set_xlim(-0.4, len(ratios) - 0.6)
    controls = CONTROLS in dict(panels)
    added = "synthetic (or repeated, or extra real)\nimages" if controls else "synthetic images"
    figure.supxlabel(f"{added} per real image", fontsize=10)
    return figure


@style()
def differences(
    comparisons: Rows, *, numbers: Sequence[int] | None = None, metric: Metric = "accuracy"
) -> Figure:
    """Paired change of a metric on test by adding synthetic images: mean, interval and replicates, per arm and ratio.

    Args:
        comparisons: one per comparison of a budget: `budget, candidate,
            synthetic_per_real, mean_difference, low, high` (fractions; null with one replicate), and `differences`,
            one per replicate.
        numbers: of the replicates; None: from 1 on.
        metric: of the differences.
    """
    candidates = dict.fromkeys(str(row["candidate"]) for row in comparisons)
    groups = [
        (line_of(name), [row for row in comparisons if row["candidate"] == name]) for name in candidates
    ]
    names = [_wrapped(ARMS[name].words) for name in candidates]
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    y, labels = 0.0, {}
    for (line, rows), name in zip(groups, names, strict=True):
        y += 0.35 + 0.5 * name.count("\n")
        _heading(axes, y, name)
        y += 0.95 + 0.25 * name.count("\n")
        for row in rows:
            _difference(axes, row, y, line, numbers)
            labels[y] = f"+ {row['synthetic_per_real']}"
            y += 1
    _around_zero(
        axes,
        [100 * value for row in comparisons for value in row["differences"]],
        [100 * end for row in comparisons for end in (row["low"], row["high"]) if end is not None],
    )
    axes.set_yticks(list(labels), list(labels.values()))
    axes.set_ylim(y - 0.4, -0.4)
    axes.set_ylabel("images added per real image")
    axes.set_title(f"{comparisons[0]['budget']} real images")
    figure.set_size_inches(_WIDTH, 1.1 + 0.33 * y)
    figure.supxlabel(f"change of test {WORDS[metric]} (percentage points)", fontsize=10)
    return figure


@style()
def gains(steps: Sequence[tuple[str, Mapping[str, Any]]], title: str) -> Figure:
    """What each of a few steps adds to test accuracy: mean, interval and every replicate, on one scale.

    Args:
        steps: words and a comparison: `mean_difference, low, high` and `differences` (fractions).
        title: of the chart.
    """
    figure = Figure(figsize=(_WIDTH, 0.9 + 0.75 * len(steps)), layout="constrained")
    axes = figure.subplots()
    for y, ((words, row), colour) in enumerate(zip(steps, _POLICY_COLOURS, strict=False)):
        low, high, mean = (100 * row[name] for name in ("low", "high", "mean_difference"))
        # A bar that ends where the interval does, and a thin mark: nothing hides an interval of a hair's breadth.
        axes.plot([low, high], [y, y], color=LIGHT[colour], linewidth=7, solid_capstyle="butt")
        axes.plot(mean, y, "|", color=LIGHT["ink"], markersize=15, markeredgewidth=1.5)
        values = [100 * value for value in row["differences"]]
        axes.plot(values, [y + 0.24] * len(values), ".", color=LIGHT[colour], alpha=0.7)
        said = axes.annotate(words, (0, y - 0.22), xytext=(4, 0), textcoords="offset points", fontsize=10)
        said.set_in_layout(False)
    every = [100 * value for _, row in steps for value in row["differences"]]
    _around_zero(axes, every, [100 * row[end] for _, row in steps for end in ("low", "high")])
    axes.set_ylim(len(steps) - 0.55, -0.6)
    axes.set_yticks([])
    axes.set_title(title)
    axes.set_xlabel("points of test accuracy\n(bar: 95 % interval, mark: mean, dots: replicates)")
    return figure


@style()
def low_data_curve(means: pd.DataFrame, dots: pd.DataFrame, *, metric: Metric = "accuracy") -> Figure:
    """A metric on test against the number of real images (logarithmic), a line per kind of arm.

    Args:
        means: `line, budget, real_images, mean, low, high` in percent; low and high are NaN with one replicate.
        dots: `line, budget, real_images, value` in percent, one row per replicate.
        metric: that these are of.
    """
    names = list(dict.fromkeys(means["line"]))
    figure = Figure(figsize=(_WIDTH, 3.8 + 0.19 * _legend_rows(names)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        colour, marker = _look(place, _LOW_DATA_COLOURS, _LOW_DATA_MARKERS)
        rows, line_dots = means[means["line"] == name], dots[dots["line"] == name]
        shift = 0.97 + 0.03 * place  # a factor: the axis is logarithmic
        x = rows["real_images"].to_numpy() * shift
        axes.fill_between(x, rows["low"], rows["high"], color=LIGHT[colour], alpha=0.15, linewidth=0)
        _dots(
            axes,
            line_dots["real_images"] * shift * 1.02,
            line_dots["value"],
            [
                f"{name}\n{budget} real images: {value:.2f} %"
                for budget, value in _pairs(line_dots, "budget", "value")
            ],
            colour,
        )
        (drawn,) = axes.plot(
            x, rows["mean"], f"{marker}-", color=LIGHT[colour], linewidth=2, markersize=7, label=name
        )
        say(
            drawn,
            [
                f"{name}\n{row.budget} real images: {row.mean:.2f} %, interval {_percent_interval(row.low, row.high)}"
                for row in rows.itertuples()
            ],
        )
    ends = means[["low", "high"]].to_numpy().ravel()
    axes.set_ylim(*_accuracy_limits([*dots["value"]], [*ends[np.isfinite(ends)]]))
    axes.set_xscale("log")
    budgets = means.drop_duplicates("real_images").sort_values("real_images")
    axes.set_xticks(budgets["real_images"].tolist(), [str(budget) for budget in budgets["budget"]])
    axes.minorticks_off()
    axes.set_xlabel("real images (logarithmic)")
    axes.set_ylabel(f"test {WORDS[metric]} (%)")
    _title(axes, "")
    return figure


@style()
def confusion_matrix(counts: npt.NDArray[np.int64], title: str, class_names: Sequence[str]) -> Figure:
    """Actual against predicted classes: counts, shaded by their share of the row.

    The shade grows with the share to the power 0.4, else a one-percent confusion would be invisible.

    Args:
        counts: (classes, classes), rows are actual, columns predicted.
        title: whose predictions they are.
        class_names: in the order of rows and columns.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def words(row: int, column: int) -> str:
        return f"{counts[row, column]} of {counts[row].sum()} ({100 * shares[row, column]:.2f} %)"

    texts = [[str(count) if count else "" for count in row] for row in counts.tolist()]
    return _matrix(shares**0.4, texts, words, title, class_names)


@style()
def confusion_difference(change: npt.NDArray[np.int64], title: str, class_names: Sequence[str]) -> Figure:
    """What changed between two confusion matrices: blue where it got better, orange where it got worse.

    Better is more on the diagonal and less beside it. The shade is relative to the largest change.

    Args:
        change: (classes, classes) counts of one arm minus those of the other; rows are actual classes.
        title: whose predictions they are.
        class_names: in the order of rows and columns.
    """
    texts = [[f"{count:+d}".replace("-", "−") if count else "" for count in row] for row in change.tolist()]
    return _matrix(better_shares(change), texts, lambda row, column: texts[row][column], title, class_names)


def better_shares(change: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(classes, classes) in −1..1: how much better (above 0) or worse a cell got, by the root of its share."""
    signs = 2 * np.eye(len(change)) - 1
    shares: npt.NDArray[np.float64] = signs * change / max(int(np.abs(change).max()), 1)
    return np.sign(shares) * np.sqrt(np.abs(shares))


@style()
def f1_differences(
    values: npt.NDArray[np.float64],
    class_names: Sequence[str],
    *,
    numbers: Sequence[int] | None = None,
    overlap: float = 0.0,
) -> Figure:
    """Paired change of each class's F1: a bar for the mean, a line for its interval, a dot per replicate.

    Args:
        values: (replicates, classes) differences of fractions.
        class_names: in the order of the columns.
        numbers: of the replicates; None: from 1 on.
        overlap: 0..1, the mean share of real images that two replicates have in common.
    """
    numbers = numbers or replicate_numbers(len(values))
    intervals = [mean_interval(100 * column, overlap=overlap) for column in values.T]
    figure = Figure(figsize=(_WIDTH, 0.9 + 0.32 * len(class_names)), layout="constrained")
    axes = figure.subplots()
    for y, (name, interval) in enumerate(zip(class_names, intervals, strict=True)):
        colour = LIGHT["blue" if interval.mean >= 0 else "orange"]
        low, high = interval.low, interval.high
        ends = points_interval(*(None if end is None else end / 100 for end in (low, high)))
        (bar,) = axes.barh(y, interval.mean, height=0.7, color=colour, alpha=0.45)
        say(bar, [f"{name}: {points(interval.mean / 100)} points, interval {ends}"])
        if low is not None and high is not None:
            axes.plot([low, high], [y, y], color=colour, linewidth=2)
        replicates = [
            f"{name}\nreplicate {i}: {points(value)} points"
            for i, value in zip(numbers, values[:, y], strict=True)
        ]
        _dots(axes, 100 * values[:, y], np.full(len(values), y), replicates, "ink")
    ends_of_all = [end for interval in intervals for end in (interval.low, interval.high) if end is not None]
    _around_zero(axes, [*(100 * values).flat], ends_of_all)
    _name(axes.yaxis, class_names)
    axes.set_ylim(len(class_names) - 0.4, -0.6)
    figure.supxlabel("change of F1 (percentage points)", fontsize=10)
    return figure


@style()
def gan_curves(history: pd.DataFrame) -> Figure:
    """Training of a budget's GANs: losses, discriminator accuracy, label fidelity; the mean is thick.

    Args:
        history: `replicate, images_seen, d_loss, g_loss, d_accuracy, label_fidelity_1nn`, and perhaps
            `d_accuracy_real` and `d_accuracy_fake`; a measurement may be missing in a row.
    """
    accuracies = [
        ("d_accuracy", "blue", "pairs"),
        ("d_accuracy_real", "green", "real"),
        ("d_accuracy_fake", "orange", "fake"),
    ]
    panels: list[tuple[str, list[tuple[str, str, str]], int | None]] = [
        ("loss", [("d_loss", "blue", "discriminator"), ("g_loss", "orange", "generator")], None),
        ("D accuracy (%)", [line for line in accuracies if line[0] in history], 50),
        ("label fidelity, 1-NN (%)", [("label_fidelity_1nn", "green", "label fidelity")], 100),
    ]
    figure = Figure(figsize=(_WIDTH, 6.4), layout="constrained")
    for axes, (title, lines, reference) in zip(figure.subplots(3, 1, sharex=True), panels, strict=True):
        for column, colour, name in lines:
            _training_line(
                axes, history.dropna(subset=[column]), column, colour, f"{title.split(' (')[0]}, {name}", name
            )
        if reference is not None:
            axes.axhline(reference, color=LIGHT["ink"], linewidth=0.8, linestyle=(0, (4, 4)))
        axes.set_title(title)
        if len(lines) > 1:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(lines), borderaxespad=0.2)
    figure.supxlabel("real images shown to the discriminator (thousands)", fontsize=10)
    return figure


@style()
def pair_gallery(pairs: Sequence[tuple[npt.NDArray[np.uint8], str]]) -> Figure:
    """Closest pairs, six a row: each a synthetic image beside its nearest training image, and words below.

    Args:
        pairs: picture (H, 2·W + gap) uint8, or (H, 2·W + gap, 3) in colour, and words of each.
    """
    columns, width, height, words_height = 6, 1.6, 1.06, 0.22  # inches
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(width * columns, height * rows))
    # All in one panel: to lay out a panel for each pair took two fifths of the time of the whole page.
    axes = figure.add_axes((0, 0, 1, 1))
    for place, (picture, words) in enumerate(pairs):
        row, column = divmod(place, columns)
        x, y = (column + 0.5) * width, (rows - row) * height  # the middle of its upper edge
        zoom = min((height - words_height - 0.06) / len(picture), (width - 0.12) / picture.shape[1])
        half = zoom * picture.shape[1] / 2
        bottom = y - words_height - zoom * len(picture)
        axes.imshow(
            picture,
            cmap="gray",
            vmin=0,
            vmax=255,
            interpolation="none",
            extent=(x - half, x + half, bottom, y - words_height),
        )
        write(axes.text(x, y - 0.05, stand_in(words), ha="center", va="top", fontsize=8), words)
    axes.set(xlim=(0, width * columns), ylim=(0, height * rows), aspect="equal")
    axes.axis("off")
    return figure


@style()
def sample_grid(
    real: npt.NDArray[np.uint8], synthetic: npt.NDArray[np.uint8], class_names: Sequence[str]
) -> Figure:
    """Real images left, synthetic ones right, a row per class; in the PNG a pixel is a whole number of pixels.

    Args:
        real: (classes, columns, H, W) uint8, or (classes, columns, H, W, 3) in colour.
        synthetic: the same shape.
        class_names: one per row.
    """
    classes, columns, height, width = real.shape[:4]
    names = [short(name) for name in class_names]
    gap, dpi = 2, 100
    zoom = max(1, round(56 / width))
    left, head, edge = 28 + round(dpi * max(text_width(name, 14) for name in names)), 48, 12  # pixels
    block_width, block_height = columns * (width + gap) * zoom, classes * (height + gap) * zoom
    total_width, total_height = left + 2 * (block_width + edge) + edge, head + block_height + edge
    figure = Figure(figsize=(total_width / dpi, total_height / dpi), dpi=dpi)
    for x, images, title in ((left, real, "real"), (left + block_width + 2 * edge, synthetic, "synthetic")):
        axes = figure.add_axes(
            (x / total_width, edge / total_height, block_width / total_width, block_height / total_height)
        )
        axes.imshow(tiles(images, gap), interpolation="none", aspect="auto")
        axes.set_title(title, fontsize=16, pad=8)
        axes.axis("off")
        for row, name in enumerate(names if x == left else []):
            y = (row + 0.5) * (height + gap) - gap / 2
            write(axes.text(-10 / zoom, y, stand_in(name), ha="right", va="center", fontsize=14), name)
    return figure


@style()
def loss_heat_maps(values: Mapping[str, pd.DataFrame]) -> Figure:
    """A heat map per loss: one row per learning rate, one column per measurement of the training, one scale each.

    Args:
        values: title → table; rows are named by learning rate, columns by epoch, cells are losses. A cell without
            a value (NaN) stays empty.
    """
    rows = max(len(table) for table in values.values())
    figure = Figure(figsize=(7.3, (0.9 + 0.32 * rows) * len(values)), layout="constrained")
    panels = figure.subplots(len(values), 1, squeeze=False)[:, 0]
    for axes, (title, table) in zip(panels, values.items(), strict=True):
        image = axes.imshow(table.to_numpy(dtype=np.float64), cmap="viridis", aspect="auto")
        shown = np.unique(np.linspace(0, table.shape[1] - 1, min(table.shape[1], 11)).astype(int))
        axes.set_xticks(shown, [f"{float(table.columns[i]):.3g}" for i in shown])
        axes.set_yticks(range(len(table)), [str(name) for name in table.index])
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=axes, pad=0.02)
        bar.outline.set_visible(False)
    return figure


def short(name: str) -> str:
    """A class name that fits beside a picture, of letters that can be printed."""
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return printable if len(printable) <= _MAX_NAME else printable[: _MAX_NAME - 1] + "…"


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


def _kin(arm: Arm) -> list[str]:
    """The arms of its kind that need a look of their own, in the order of the table of arms."""
    drawn = {name for line in _augmentation_lines() for name in line.arms}
    return [
        other.name
        for other in ARMS.values()
        if other.name not in drawn
        and other.uses_real
        and not other.rare_only
        and not other.pool
        and other.images != "real"
        and other.adds_synthetic == arm.adds_synthetic
    ]


def _place(line: Line) -> tuple[int, int]:
    """Where a line stands in a legend: those of the augmentations first, then in the order of the table of arms."""
    of_policies = _augmentation_lines()
    if line in of_policies:
        return 0, of_policies.index(line)
    return 1, list(ARMS).index(line.arms[-1])


def _metric_lines(
    axes: Axes, lines: Sequence[Line], cells: pd.DataFrame, arms: Rows, ratios: Sequence[float], column: str
) -> None:
    """One panel of the ratio curve; lines stand beside each other, so that dots and bands are all seen."""
    step = min(0.16, 0.6 / len(lines))
    values, ends = [], []
    for place, line in enumerate(lines):
        rows = [
            row
            for ratio in ratios
            for row in arms
            if row["arm"] in line.arms and row["synthetic_per_real"] == ratio
        ]
        x = np.array([ratios.index(row["synthetic_per_real"]) for row in rows]) + step * (
            place - (len(lines) - 1) / 2
        )
        if rows[0][f"{column}_low"] is not None:
            low, high = ([100 * row[f"{column}_{end}"] for row in rows] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=LIGHT[line.colour], alpha=0.15, linewidth=0)
            ends += [*low, *high]
        for row, at in zip(rows, x, strict=True):
            found = (cells["arm"] == row["arm"]) & (cells["synthetic_per_real"] == row["synthetic_per_real"])
            replicates = _pairs(cells[found], "replicate", column)
            dots = [100 * value for _, value in replicates]
            words = [
                f"{ARMS[row['arm']].words}\nreplicate {i}: {100 * value:.2f} %" for i, value in replicates
            ]
            _dots(axes, np.full(len(dots), at + 0.07), dots, words, line.colour)
            values += dots
        y = [100 * row[column] for row in rows]
        colour = LIGHT[line.colour]
        (drawn,) = axes.plot(
            x, y, f"{line.marker}-", color=colour, linewidth=2, markersize=7, label=_wrapped(line.words)
        )
        say(drawn, [_mean_words(row, column) for row in rows])
    axes.set_ylim(*_accuracy_limits(values, ends))


def _mean_words(row: Mapping[str, Any], column: str) -> str:
    interval = percent_interval(row[f"{column}_low"], row[f"{column}_high"])
    arm = f"{ARMS[row['arm']].words}, {row['synthetic_per_real']} per real"
    return f"{arm}\nmean {100 * row[column]:.2f} %, interval {interval}"


def _difference(
    axes: Axes, row: Mapping[str, Any], y: float, line: Line, numbers: Sequence[int] | None
) -> None:
    """One row of the differences: interval, mean, and the replicates below."""
    colour = LIGHT[line.colour]
    name = f"{line.words}, + {row['synthetic_per_real']}"
    if row["low"] is not None:
        axes.plot([100 * row["low"], 100 * row["high"]], [y, y], color=colour, linewidth=2.5)
    (mean,) = axes.plot(100 * row["mean_difference"], y, line.marker, color=colour, markersize=7)
    interval = points_interval(row["low"], row["high"])
    say(mean, [f"{name}\nmean {points(row['mean_difference'])} points, interval {interval}"])
    replicates = row["differences"]
    named = zip(numbers or replicate_numbers(len(replicates)), replicates, strict=True)
    words = [f"{name}\nreplicate {i}: {points(value)} points" for i, value in named]
    _dots(axes, 100 * np.asarray(replicates), np.full(len(replicates), y + 0.3), words, line.colour)


def _heading(axes: Axes, y: float, words: str) -> None:
    """Words above a group of rows, from the left edge on: there they have all of the width."""
    axes.annotate(
        words,
        (0, y),
        (5, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        bbox={"facecolor": LIGHT["background"], "linewidth": 0, "pad": 1},
    )


def _training_line(
    axes: Axes, history: pd.DataFrame, column: str, colour: str, words: str, label: str
) -> None:
    """A measurement over training: a thin line per replicate, and their mean, some points of which say their value."""
    scale, unit = (1, "") if column.endswith("loss") else (100, " %")
    for _, rows in history.groupby("replicate"):
        axes.plot(
            rows["images_seen"] / 1000, scale * rows[column], color=LIGHT[colour], linewidth=0.7, alpha=0.5
        )
    mean = scale * history.groupby("images_seen")[column].mean()
    axes.plot(mean.index / 1000, mean, color=LIGHT[colour], linewidth=2, label=label)
    places = np.unique(np.linspace(0, len(mean) - 1, min(len(mean), _MOST_POINTS)).astype(int))
    x, y = mean.index.to_numpy()[places] / 1000, mean.to_numpy()[places]
    (unseen,) = axes.plot(x, y, "o", markersize=5, color="none")
    say(
        unseen,
        [
            f"{thousands:.0f} thousand images\n{words}: {value:.2f}{unit}"
            for thousands, value in zip(x, y, strict=True)
        ],
    )


def _dots(axes: Axes, x: Any, y: Any, words: Sequence[str], colour: str) -> None:
    """One small dot per replicate."""
    (drawn,) = axes.plot(x, y, ".", color=LIGHT[colour], alpha=0.7)
    say(drawn, words)


def _matrix(
    shades: npt.NDArray[np.float64],
    texts: Sequence[Sequence[str]],
    words: Callable[[int, int], str],
    title: str,
    class_names: Sequence[str],
) -> Figure:
    """A square of cells: blue above 0, orange below, with a text in each unless there are too many.

    A cell without a text is left out. Cells are rectangles, not one picture: a picture would keep its colours on a
    dark page.
    """
    number = len(class_names)
    names = [short(name) for name in class_names]
    size = 9 if number <= _MOST_COUNTS else 6
    longest = max(len(text) for row in texts for text in row)
    cell = max(0.3, 0.08 * longest + 0.03) if number <= _MOST_COUNTS else 0.14
    width = max(_MATRIX_WIDTH, number * cell + max(text_width(name, size) for name in names) + 0.5)
    figure = Figure(figsize=(width, width), layout="constrained")
    axes = figure.subplots()
    for row, column in np.argwhere(np.array([[bool(text) for text in row] for row in texts])):
        shade = shades[row, column]
        fill = (LIGHT["blue" if shade >= 0 else "orange"], abs(shade))
        drawn = axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=fill, linewidth=0))
        say(drawn, [f"{class_names[row]} taken for {class_names[column]}: {words(row, column)}"])
        if number <= _MOST_COUNTS:
            ink = LIGHT["background" if abs(shade) > 0.55 else "ink"]
            axes.text(column, row, texts[row][column], ha="center", va="center", fontsize=9, color=ink)
    _name(axes.xaxis, class_names, fontsize=size, rotation=90 if max(map(len, names)) > 3 else 0)
    _name(axes.yaxis, class_names, fontsize=size)
    axes.set_xlim(-0.5, number - 0.5)
    axes.set_ylim(number - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set_xlabel("predicted")
    axes.set_ylabel("actual")
    letters = round(9.5 * width)
    figure.suptitle(
        "\n".join(textwrap.wrap(title, letters)), x=0.02, ha="left", fontsize=10, fontweight="bold"
    )
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _name(axis: Axis, class_names: Sequence[str], **text_style: Any) -> None:
    """Class names along an axis."""
    names = [short(name) for name in class_names]
    axis.set_ticks(range(len(names)), [stand_in(name) for name in names], **text_style)
    for tick, name in zip(axis.get_major_ticks(), names, strict=True):
        write(tick.label1, name)


def _around_zero(axes: Axes, values: Sequence[float], ends: Sequence[float]) -> None:
    """Rows from top to bottom around a zero line."""
    axes.axvline(0, color=LIGHT["ink"], linewidth=1, zorder=1)
    axes.set_xlim(*limits([*values, 0.0], ends))
    axes.locator_params(axis="x", nbins=5)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.tick_params(left=False)


def _accuracy_limits(values: Sequence[float], ends: Sequence[float]) -> tuple[float, float]:
    """Limits of an accuracy in percent: no room is lost above 100."""
    bottom, top = limits(values, ends)
    return bottom, min(top, 100 + 0.03 * (top - bottom))


def _title(axes: Axes, title: str) -> None:
    """A title, and between it and the plot the legend."""
    names = axes.get_legend_handles_labels()[1]
    rows = _legend_rows(names)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=-(-len(names) // rows), borderaxespad=0.3, borderpad=0
    )
    axes.set_title(title, pad=8 + 14.5 * rows)


def _legend_rows(names: Sequence[str]) -> int:
    """How many lines a legend has: short names stand two in a line."""
    wrapped = [_wrapped(name) for name in names]
    if all(len(name) <= 16 for name in wrapped):
        return -(-len(names) // 2)
    return sum(1 + name.count("\n") for name in wrapped)


def _wrapped(words: str) -> str:
    return "\n".join(textwrap.wrap(words, _MAX_WORDS))


def _percent_interval(low: float, high: float) -> str:
    """The interval of an accuracy that is in percent already; NaN stands for none."""
    return percent_interval(*(None if np.isnan(end) else end / 100 for end in (low, high)))


def _pairs(table: pd.DataFrame, *columns: str) -> list[tuple[Any, Any]]:
    first, second = (table[column].tolist() for column in columns)
    return list(zip(first, second, strict=True))


def tiles(images: npt.NDArray[np.uint8], gap: int) -> npt.NDArray[np.uint8]:
    """(rows, columns, H, W), or with a last axis of colours, as one (…, …, 4) picture with see-through gaps."""
    classes, columns, height, width = images.shape[:4]
    coloured = images if images.ndim == 5 else images[..., None]
    canvas = np.zeros((classes, height + gap, columns, width + gap, 4), dtype=np.uint8)
    canvas[:, :height, :, :width, :3] = coloured.transpose(0, 2, 1, 3, 4)
    canvas[:, :height, :, :width, 3] = 255
    return canvas.reshape(classes * (height + gap), columns * (width + gap), 4)
