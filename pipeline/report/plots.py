"""Interactive plots of the page, and the script that draws them, embedded once.

Each function takes what its twin in `pipeline/figures.py` takes and returns a Plotly figure as JSON values. The
twin's picture is what a reader sees in print, without scripts, and on a slide.

Texts are escaped: Plotly reads some HTML in them, and class names come from a user's folders. Hover texts are
whole texts, no templates, for the same reason.
"""

from __future__ import annotations

import base64
import functools
import gzip
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from pipeline.comparison.verdict import percent_interval, points, points_interval
from pipeline.figures import (
    LOW_DATA_LOOKS,
    Line,
    Rows,
    Theme,
    arm_words,
    better_shares,
    difference_words,
    gan_panels,
    limits,
    line_of,
    mixed_lines,
    short,
)
from pipeline.statistics import mean_interval
from pipeline.study.arms import ARMS

_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "<": "triangle-left",
    ">": "triangle-right",
    "*": "star",
}
_OTHER_LOOKS = (("only", "^"), ("fifth", "<"), ("sixth", ">"), ("seventh", "*"))
_LINE_HEIGHT = 22  # pixels of a row of the legend, or of a row of names
_MOST_NAMED = 20  # classes: more have no counts in their cells

Json = dict[str, Any]


@functools.cache
def script() -> tuple[str, str]:
    """plotly.js, gzipped and in base64 (a third of its size), and its name and licence in a line."""
    text = get_plotlyjs()
    first_lines = text[: text.index("*/")].replace("/**", "").split("*")
    notice = "; ".join(line.strip() for line in first_lines if line.strip())
    packed = gzip.compress(text.encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode(), f"{notice} (Python package plotly {plotly.__version__})"


def embedded(light: Json, dark: Json) -> str:
    """Both themes of a plot as JSON that can stand in a script element: it closes none."""
    text = json.dumps({"light": light, "dark": dark}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def ratio_curve(cells: pd.DataFrame, arms: Rows, *, theme: Theme) -> Json:
    """Test accuracy against synthetic images per real one, of one budget; twin of `figures.ratio_curve`.

    What is not real and synthetic images together (controls, synthetic only) is in the legend, hidden at first.
    What fills the gap of rare classes has no ratio, and no place here.
    """
    ratios = sorted({row["synthetic_per_real"] for row in arms})
    lines = mixed_lines(arms)
    drawn = {name for line in lines for name in line.arms}
    others = dict.fromkeys(
        row["arm"] for row in arms if row["arm"] not in drawn and not ARMS[row["arm"]].rare_only
    )
    hidden = [
        Line("none", (name,), *_OTHER_LOOKS[place % len(_OTHER_LOOKS)], -0.2 - 0.06 * place, arm_words(name))
        for place, name in enumerate(others)
    ]
    figure = go.Figure()
    for line, shown in [*((line, True) for line in lines), *((line, False) for line in hidden)]:
        _accuracy_line(figure, line, cells, arms, ratios, theme, shown=shown)
    _lay_out(figure, theme, height=400 + _LINE_HEIGHT * (len(lines) + len(hidden)))
    _legend_below(figure)
    figure.update_xaxes(
        title="synthetic images per real image",
        tickvals=list(range(len(ratios))),
        ticktext=["0<br>real only" if ratio == 0 else str(ratio) for ratio in ratios],
        showgrid=False,
    )
    figure.update_yaxes(title="test accuracy (%)")
    return _json(figure)


def differences(comparisons: Rows, *, theme: Theme) -> Json:
    """Paired change of test accuracy by adding synthetic images; twin of `figures.differences`."""
    values = [100 * value for row in comparisons for value in row["differences"]]
    ends = [100 * end for row in comparisons for end in (row["low"], row["high"]) if end is not None]
    bottom, top = limits([*values, 0.0], ends)
    figure = go.Figure()
    for y, row in enumerate(comparisons):
        line = line_of(row["candidate"])
        colour = getattr(theme, line.colour)
        words = (
            f"{_text(difference_words(row))}<br>mean {points(row['mean_difference'])} points,"
            f" interval {points_interval(row['low'], row['high'])}"
        )
        if row["low"] is not None:
            _segment(figure, max(100 * row["low"], bottom), min(100 * row["high"], top), y, colour)
        _dots(
            figure,
            [100 * value for value in row["differences"]],
            [y + 0.28] * len(row["differences"]),
            [f"replicate {i}: {points(value)} points" for i, value in enumerate(row["differences"])],
            colour,
        )
        figure.add_scatter(
            x=[100 * row["mean_difference"]],
            y=[y],
            mode="markers",
            marker={"color": colour, "symbol": _SYMBOLS[line.marker], "size": 10},
            hovertext=[words],
            hoverinfo="text",
            showlegend=False,
        )
    names = [difference_words(row).partition(" real, ")[2] for row in comparisons]
    _horizontal(
        figure, names, theme, bottom=bottom, top=top, title="change of test accuracy<br>(percentage points)"
    )
    return _json(figure)


def low_data_curve(means: pd.DataFrame, dots: pd.DataFrame, *, theme: Theme) -> Json:
    """Test accuracy against the number of real images; twin of `figures.low_data_curve`."""
    ends = means[["low", "high"]].to_numpy().ravel()
    bottom, top = limits([*dots["value"]], [*ends[np.isfinite(ends)]])
    figure = go.Figure()
    for (name, rows), look in zip(means.groupby("line", sort=False), LOW_DATA_LOOKS, strict=False):
        colour, shift = getattr(theme, look[0]), 1 + look[2]
        x = rows["real_images"].to_numpy() * shift
        group = str(name)
        known = rows["low"].notna().all()
        if known:
            _band(
                figure, x, rows["low"].clip(bottom), rows["high"].clip(upper=top), colour, group, shown=True
            )
        intervals = [
            percent_interval(low / 100, high / 100) if known else "none"
            for low, high in zip(rows["low"], rows["high"], strict=True)
        ]
        of_line = dots[dots["line"] == name]
        _dots(
            figure,
            of_line["real_images"] * shift * 1.02,
            of_line["value"],
            [f"{real} real images: {value:.2f} %" for real, value in _pairs(of_line, "budget", "value")],
            colour,
            group=group,
        )
        figure.add_scatter(
            x=x,
            y=rows["mean"],
            mode="lines+markers",
            name=_text(group),
            legendgroup=group,
            line={"color": colour, "width": 2},
            marker={"symbol": _SYMBOLS[look[1]], "size": 9},
            hovertext=[
                f"{_text(group)}<br>{budget} real images: {mean:.2f} %, interval {interval}"
                for (budget, mean), interval in zip(_pairs(rows, "budget", "mean"), intervals, strict=True)
            ],
            hoverinfo="text",
        )
    _lay_out(figure, theme, height=400 + _LINE_HEIGHT * means["line"].nunique())
    _legend_below(figure)
    known_budgets = means.drop_duplicates("real_images").sort_values("real_images")
    figure.update_xaxes(
        type="log",
        title="real images (logarithmic)",
        tickvals=known_budgets["real_images"].tolist(),
        ticktext=[str(budget) for budget in known_budgets["budget"]],
        showgrid=False,
    )
    figure.update_yaxes(title="test accuracy (%)")
    return _json(figure)


def confusion_matrix(
    counts: npt.NDArray[np.int64], class_names: Sequence[str], title: str, *, theme: Theme
) -> Json:
    """Actual against predicted classes; twin of `figures.confusion_matrix`."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    hover = [
        [
            f"{_text(actual)} taken for {_text(predicted)}: {counts[row, column]} of {counts[row].sum()}"
            f" ({100 * shares[row, column]:.2f} %)"
            for column, predicted in enumerate(class_names)
        ]
        for row, actual in enumerate(class_names)
    ]
    texts = [[str(count) if count else "" for count in row] for row in counts.tolist()]
    scale = [[0, theme.background], [1, theme.none]]
    return _matrix(shares**0.4, texts, hover, class_names, title, scale, (0, 1), theme)


def confusion_difference(
    change: npt.NDArray[np.int64], class_names: Sequence[str], title: str, *, theme: Theme
) -> Json:
    """What changed between two confusion matrices; twin of `figures.confusion_difference`."""
    signed = [[f"{count:+d}".replace("-", "−") if count else "" for count in row] for row in change.tolist()]
    hover = [
        [
            f"{_text(actual)} taken for {_text(predicted)}: {signed[row][column] or 'no change'}"
            for column, predicted in enumerate(class_names)
        ]
        for row, actual in enumerate(class_names)
    ]
    scale = [[0, theme.affine], [0.5, theme.background], [1, theme.none]]
    return _matrix(better_shares(change), signed, hover, class_names, title, scale, (-1, 1), theme)


def f1_differences(values: npt.NDArray[np.float64], class_names: Sequence[str], *, theme: Theme) -> Json:
    """Paired change of each class's F1; twin of `figures.f1_differences`."""
    intervals = [mean_interval(100 * column) for column in values.T]
    ends = [end for each in intervals for end in (each.low, each.high) if end is not None]
    bottom, top = limits([*(100 * values).flat, 0.0], ends)
    colours = [theme.none if each.mean >= 0 else theme.affine for each in intervals]
    figure = go.Figure()
    figure.add_bar(
        x=[each.mean for each in intervals],
        y=list(range(len(class_names))),
        orientation="h",
        marker={"color": colours, "opacity": 0.45},
        hovertext=[
            f"{_text(name)}: {points(each.mean / 100)} points, interval {_points_of_percent(each.low, each.high)}"
            for name, each in zip(class_names, intervals, strict=True)
        ],
        hoverinfo="text",
        showlegend=False,
    )
    for y, (each, colour) in enumerate(zip(intervals, colours, strict=True)):
        if each.low is not None and each.high is not None:
            _segment(figure, max(each.low, bottom), min(each.high, top), y, colour)
        _dots(
            figure,
            [100 * value for value in values[:, y]],
            [y] * len(values),
            [f"replicate {i}: {points(value)} points" for i, value in enumerate(values[:, y])],
            theme.ink,
        )
    _horizontal(
        figure,
        [short(name) for name in class_names],
        theme,
        bottom=bottom,
        top=top,
        title="change of F1 (percentage points)",
    )
    return _json(figure)


def gan_curves(history: pd.DataFrame, *, theme: Theme) -> Json:
    """Losses, discriminator accuracy and label fidelity over training; twin of `figures.gan_curves`."""
    panels = gan_panels(history, theme)
    figure = make_subplots(
        rows=len(panels),
        shared_xaxes=True,
        vertical_spacing=0.07,
        subplot_titles=[words.replace("\n", " ") for words, _, _ in panels],
    )
    for place, (words, columns, reference) in enumerate(panels, start=1):
        for column, colour, label in columns:
            known = history.dropna(subset=[column])
            scale = 1 if column.endswith("loss") else 100
            name = label or words.replace("\n", " ")
            for replicate, rows in known.groupby("replicate"):
                figure.add_scatter(
                    x=(rows["images_seen"] / 1000).round(3),
                    y=(scale * rows[column]).round(4),
                    mode="lines",
                    line={"color": colour, "width": 0.8},
                    opacity=0.55,
                    name=f"{name}, replicate {replicate}",
                    legendgroup=column,
                    showlegend=False,
                    row=place,
                    col=1,
                )
            mean = known.groupby("images_seen")[column].mean()
            figure.add_scatter(
                x=(mean.index.to_series() / 1000).round(3),
                y=(scale * mean).round(4),
                mode="lines",
                line={"color": colour, "width": 2.5},
                name=f"{name}, mean" if len(columns) == 1 else f"{'D on ' if place == 2 else ''}{name}",
                legendgroup=column,
                showlegend=len(columns) > 1,
                row=place,
                col=1,
            )
        if reference is not None:
            figure.add_hline(
                y=reference, line={"color": theme.ink, "width": 1, "dash": "dash"}, row=place, col=1
            )
    _lay_out(figure, theme, height=640)
    figure.update_layout(margin={"t": 32})
    figure.update_annotations(font={"size": 13, "color": theme.ink}, x=0, xanchor="left")
    _legend_below(figure)
    figure.update_xaxes(title="real images shown to the<br>discriminator (thousands)", row=len(panels), col=1)
    return _json(figure)


def _accuracy_line(
    figure: go.Figure,
    line: Line,
    cells: pd.DataFrame,
    arms: Rows,
    ratios: Sequence[float],
    theme: Theme,
    *,
    shown: bool,
) -> None:
    """One line of the ratio curve: band, dots of the replicates, mean."""
    colour = getattr(theme, line.colour)
    rows = [
        row
        for ratio in ratios
        for row in arms
        if row["arm"] in line.arms and row["synthetic_per_real"] == ratio
    ]
    x = np.array([ratios.index(row["synthetic_per_real"]) for row in rows]) + line.shift
    dots: list[tuple[float, float, str]] = []
    for row, at in zip(rows, x, strict=True):
        found = (cells["arm"] == row["arm"]) & (cells["synthetic_per_real"] == row["synthetic_per_real"])
        beside = -0.07 if line.shift < 0 else 0.07
        dots += [
            (
                at + beside,
                100 * value,
                f"{_text(arm_words(row['arm']))}<br>replicate {replicate}: {100 * value:.2f} %",
            )
            for replicate, value in _pairs(cells[found], "replicate", "test_accuracy")
        ]
    values = [value for _, value, _ in dots]
    if rows[0]["test_accuracy_low"] is not None:
        low, high = ([100 * row[f"test_accuracy_{end}"] for row in rows] for end in ("low", "high"))
        bottom, top = limits(values, [*low, *high])
        _band(
            figure,
            x,
            np.maximum(low, bottom),
            np.minimum(high, min(top, 100)),
            colour,
            line.words,
            shown=shown,
        )
    _dots(
        figure,
        [at for at, _, _ in dots],
        values,
        [words for _, _, words in dots],
        colour,
        line.words,
        shown=shown,
    )
    figure.add_scatter(
        x=x,
        y=[100 * row["test_accuracy"] for row in rows],
        mode="lines+markers",
        name=_text(line.words),
        legendgroup=line.words,
        line={"color": colour, "width": 2},
        marker={"symbol": _SYMBOLS[line.marker], "size": 9},
        hovertext=[
            f"{_text(arm_words(row['arm']))}, {row['synthetic_per_real']} per real<br>mean"
            f" {100 * row['test_accuracy']:.2f} %, interval"
            f" {percent_interval(row['test_accuracy_low'], row['test_accuracy_high'])}"
            for row in rows
        ],
        hoverinfo="text",
        visible=True if shown else "legendonly",
    )


def _band(figure: go.Figure, x: Any, low: Any, high: Any, colour: str, group: str, *, shown: bool) -> None:
    """An interval as a band: there along the lower ends, and back along the upper ones."""
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*low, *list(high)[::-1]],
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=_transparent(colour),
        hoverinfo="skip",
        legendgroup=group,
        showlegend=False,
        visible=True if shown else "legendonly",
    )


def _dots(
    figure: go.Figure,
    x: Any,
    y: Any,
    words: Sequence[str],
    colour: str,
    group: str | None = None,
    *,
    shown: bool = True,
) -> None:
    """One small dot per replicate."""
    figure.add_scatter(
        x=list(x),
        y=list(y),
        mode="markers",
        marker={"color": colour, "size": 5, "opacity": 0.75},
        hovertext=list(words),
        hoverinfo="text",
        legendgroup=group,
        showlegend=False,
        visible=True if shown else "legendonly",
    )


def _segment(figure: go.Figure, low: float, high: float, y: float, colour: str) -> None:
    figure.add_scatter(
        x=[low, high],
        y=[y, y],
        mode="lines",
        line={"color": colour, "width": 3},
        hoverinfo="skip",
        showlegend=False,
    )


def _matrix(
    shades: npt.NDArray[np.float64],
    texts: Sequence[Sequence[str]],
    hover: Sequence[Sequence[str]],
    class_names: Sequence[str],
    title: str,
    scale: Sequence[Sequence[Any]],
    ends: tuple[float, float],
    theme: Theme,
) -> Json:
    """A square heat map with a text in each cell, unless there are too many."""
    number = len(class_names)
    names = [_text(short(name)) for name in class_names]
    figure = go.Figure()
    figure.add_heatmap(
        z=shades.round(4).tolist(),
        hovertext=hover,
        hoverinfo="text",
        colorscale=scale,
        zmin=ends[0],
        zmax=ends[1],
        showscale=False,
        xgap=1,
        ygap=1,
    )
    if number <= _MOST_NAMED:
        # A trace of its own: its colour follows each cell's shade.
        filled = [(row, column) for row in range(number) for column in range(number) if texts[row][column]]
        figure.add_scatter(
            x=[column for _, column in filled],
            y=[row for row, _ in filled],
            mode="text",
            text=[texts[row][column] for row, column in filled],
            textfont={
                "size": 10 if number <= 12 else 8,
                "color": [theme.background if abs(shades[cell]) > 0.55 else theme.ink for cell in filled],
            },
            hoverinfo="skip",
            showlegend=False,
        )
    turned = max(map(len, names)) > 3
    _lay_out(figure, theme, height=430)
    figure.update_layout(
        margin={"t": 34},
        title={"text": _text(title), "font": {"size": 13}, "x": 0.01, "y": 0.985, "yanchor": "top"},
    )
    places = list(range(number))
    figure.update_xaxes(
        title="predicted",
        tickvals=places,
        ticktext=names,
        tickangle=-90 if turned else 0,
        range=[-0.5, number - 0.5],
    )
    figure.update_yaxes(title="actual", tickvals=places, ticktext=names, range=[number - 0.5, -0.5])
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_yaxes(showgrid=False, zeroline=False)
    return _json(figure)


def _horizontal(
    figure: go.Figure, names: Sequence[str], theme: Theme, *, bottom: float, top: float, title: str
) -> None:
    """Rows from top to bottom around a zero line."""
    _lay_out(figure, theme, height=110 + 1.6 * _LINE_HEIGHT * len(names))
    room = 0.02 * (top - bottom)
    figure.update_xaxes(
        title=title,
        range=[bottom - room, top + room],
        zeroline=True,
        zerolinecolor=theme.ink,
        zerolinewidth=1.5,
    )
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[_text(name) for name in names],
        range=[len(names) - 0.4, -0.6],
        showgrid=False,
        zeroline=False,
    )


def _lay_out(figure: go.Figure, theme: Theme, *, height: float) -> None:
    axes = {
        "gridcolor": theme.faint,
        "linecolor": theme.ink,
        "showline": False,
        "zeroline": False,
        "automargin": True,
        "ticks": "",
        "ticklabelstandoff": 5,
    }
    figure.update_layout(
        template="none",
        height=round(height),
        margin={"l": 12, "r": 12, "t": 12, "b": 12},
        paper_bgcolor=theme.background,
        plot_bgcolor=theme.background,
        font={"family": "system-ui, sans-serif", "size": 12, "color": theme.ink},
        hoverlabel={"bgcolor": theme.background, "bordercolor": theme.ink, "font": {"color": theme.ink}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": theme.seventh, "activecolor": theme.ink},
        hovermode="closest",
        dragmode="zoom",
    )
    figure.update_xaxes(**axes)
    figure.update_yaxes(**axes)


def _legend_below(figure: go.Figure) -> None:
    """Below the plot: beside it there is no room on a phone."""
    figure.update_layout(
        legend={
            "orientation": "h",
            "x": 0,
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
            "itemclick": "toggle",
            "groupclick": "togglegroup",
        }
    )


def _transparent(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"


def _points_of_percent(low: float | None, high: float | None) -> str:
    return points_interval(None if low is None else low / 100, None if high is None else high / 100)


def _pairs(table: pd.DataFrame, *columns: str) -> list[tuple[Any, Any]]:
    first, second = (table[column].tolist() for column in columns)
    return list(zip(first, second, strict=True))


def _text(words: str) -> str:
    """As Plotly shows it: it would take `<b>` for bold type."""
    return html.escape(words, quote=False)


def _json(figure: go.Figure) -> Json:
    """Data and layout as JSON values; numbers of six digits are enough for a screen."""
    values: Mapping[str, Any] = json.loads(figure.to_json())
    return {"data": values["data"], "layout": values["layout"]}
