"""From a Matplotlib figure to bytes: a PNG, an SVG file, and SVG for the page, all of one drawing.

A figure is drawn in light colours. In the page each of them becomes a CSS variable, so that one copy serves light,
dark and print. Text stays text: the reader's fonts know every script. Matplotlib's own font does not; it only
measures, and where it lacks the letters of a name, a stand-in of the same width is measured in its place.

What a mark says when it is pointed at, and a name that has a stand-in, ride in the `gid` of their artist as JSON:
Matplotlib writes it as the id of their SVG group.
"""

from __future__ import annotations

import base64
import copy
import functools
import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from PIL import Image

# Light, dark. The Okabe–Ito palette and its kin, which colour-blind readers can tell apart.
COLOURS = {
    "background": ("#ffffff", "#161b22"),
    "ink": ("#24292f", "#dde3ea"),
    "faint": ("#d5dae0", "#3a424c"),
    "blue": ("#0072b2", "#56b4e9"),
    "orange": ("#d55e00", "#e69f00"),
    "pink": ("#b0579a", "#d48ab8"),
    "green": ("#009e73", "#2bc49a"),
    "olive": ("#7a6400", "#f0e442"),
    "violet": ("#5a4fcf", "#a9a4ff"),
    "grey": ("#757b82", "#9aa5b1"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}

_FONT = "DejaVu Sans"  # comes with Matplotlib: what is on the machine changes nothing
_VARIABLES = {light: f"var(--chart-{name})" for name, light in LIGHT.items()}
_ROUNDED = ("d", "x", "y", "width", "height", "transform")


def colour_variables(theme: int) -> str:
    """The CSS variables of a chart's colours: 0 light, 1 dark."""
    return " ".join(f"--chart-{name}: {colours[theme]};" for name, colours in COLOURS.items())


@contextmanager
def style() -> Iterator[None]:
    """Settings of the charts on top of Matplotlib's own defaults, whatever the user's are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "figure.facecolor": LIGHT["background"],
                "figure.dpi": 160,
                "savefig.dpi": "figure",
                "axes.facecolor": LIGHT["background"],
                "axes.edgecolor": LIGHT["ink"],
                "axes.labelcolor": LIGHT["ink"],
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "axes.grid.axis": "y",
                "axes.axisbelow": True,
                "axes.titlesize": 11,
                "axes.titleweight": "bold",
                "axes.titlelocation": "left",
                "figure.constrained_layout.w_pad": 0.08,
                "figure.constrained_layout.h_pad": 0.08,
                "font.family": _FONT,
                "font.size": 10,
                "grid.color": LIGHT["faint"],
                "legend.columnspacing": 1.2,
                "legend.frameon": False,
                "legend.handlelength": 1.6,
                "text.color": LIGHT["ink"],
                "text.parse_math": False,  # a class may be called $x$
                "xtick.color": LIGHT["ink"],
                "ytick.color": LIGHT["ink"],
                "svg.fonttype": "none",
                "svg.hashsalt": "synthgain",
            }
        )
        yield


def say(artist: Artist, words: Sequence[str]) -> None:
    """What the marks of an artist say when they are pointed at, in the order in which it draws them."""
    artist.set_gid(json.dumps({"words": list(words)}))


def write(text: Text, name: str) -> None:
    """Let a text that was drawn as `stand_in(name)` read `name` in the SVG."""
    if stand_in(name) != name:
        text.set_gid(json.dumps({"text": name}))


def stand_in(name: str) -> str:
    """A text about as wide as `name`, of letters that Matplotlib's font has; `name` itself where it has them all."""
    return "".join(
        letter if ord(letter) in _letters() else "m" if unicodedata.east_asian_width(letter) in "WF" else "n"
        for letter in name
    )


def numbered(names: Sequence[str]) -> list[str]:
    """Names for a PNG: where Matplotlib's font lacks the letters of one, its number in the data takes its place."""
    return [name if stand_in(name) == name else f"label {label}" for label, name in enumerate(names)]


@functools.cache
def text_width(words: str, points: float) -> float:
    """How many inches wide a text is in Matplotlib's font."""
    with style():
        return float(TextPath((0, 0), stand_in(words), size=points).get_extents().width) / 72


def png(figure: Figure) -> bytes:
    """A figure as a PNG: no date, no version."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def svg_tree(figure: Figure) -> ET.Element:
    """A figure as SVG in light colours: no namespaces, no date, and those ids only that something refers to.

    The words of its marks are their titles, which a browser shows without scripts.
    """
    buffer, dpi = io.BytesIO(), figure.dpi
    with style():
        # Not `savefig`, which draws a figure with a layout twice: once for the layout, and once more.
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    figure.dpi = dpi
    root = ET.fromstring(buffer.getvalue())
    for node in root.iter():
        node.tag = _local(node.tag)
        node.attrib = {_local(key): value for key, value in node.attrib.items()}
    for parent in list(root.iter()):
        for child in list(parent):
            # Its style sheet would be that of the whole page.
            if child.tag == "metadata" or (child.tag == "defs" and child.find("style") is not None):
                parent.remove(child)
    del root.attrib["version"], root.attrib["width"], root.attrib["height"]
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    for node in list(root.iter()):
        if node.get("id", "").startswith("{"):
            _say(node, json.loads(node.attrib.pop("id")))
    references = [node.get("href", "") + node.get("clip-path", "") for node in root.iter()]
    used = {name for text in references for name in re.findall(r"#(\w+)", text)}
    for node in root.iter():
        _shorten(node)
        if node.get("id") not in used:
            node.attrib.pop("id", None)
    _flatten(root)
    return root


def svg_file(tree: ET.Element) -> bytes:
    """What `svg_tree` returned as a file."""
    root = copy.deepcopy(tree)
    width, height = root.get("viewBox", "").split()[2:]
    size = {"width": f"{width}pt", "height": f"{height}pt", "font-family": "system-ui, sans-serif"}
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", **size}
    data: bytes = ET.tostring(root, encoding="utf-8")
    return data


def svg_of_page(tree: ET.Element, name: str, words: str, *, most_bytes: int | None = None) -> Markup:
    """What `svg_tree` returned as an element of the page; its colours are the variables of `colour_variables`.

    Args:
        tree: the drawing.
        name: of the chart, unique in the page: ids begin with it.
        words: for those who cannot see it.
        most_bytes: of each photograph in it; a larger one is scaled down.
    """
    root = copy.deepcopy(tree)
    root.attrib |= {"class": "chart", "role": "img", "aria-label": words}
    found = [node.get("id", "") for node in root.iter() if "id" in node.attrib]
    ids = {old: f"{name}-{number}" for number, old in enumerate(found)}
    for node in root.iter():
        if "id" in node.attrib:
            node.set("id", ids[node.get("id", "")])
        if node.get("href", "").startswith("#"):
            node.set("href", f"#{ids[node.get('href', '')[1:]]}")
        if "clip-path" in node.attrib:
            node.set("clip-path", f"url(#{ids[node.get('clip-path', '')[5:-1]]})")
        if "style" in node.attrib:
            values = _declarations(node)
            _declare(node, {key: _VARIABLES.get(value, value) for key, value in values.items()})
        if node.tag == "image" and most_bytes is not None:
            data = base64.b64decode(node.get("href", "").partition(",")[2])
            node.set("href", png_uri(data, most_bytes))
    return Markup(ET.tostring(root, encoding="unicode"))


def png_uri(data: bytes, most: int) -> str:
    """A PNG of at most `most` bytes as a data URI, scaled down as far as that needs."""
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.copy()
    while len(data) > most and min(image.size) > 8:
        image = image.resize(
            (max(image.width * 3 // 4, 1), max(image.height * 3 // 4, 1)), Image.Resampling.LANCZOS
        )
        data = png_of_pixels(image)
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def png_of_pixels(image: Image.Image) -> bytes:
    """An image as a PNG, packed well: grey pixels in one channel, which takes two thirds of the bytes."""
    if image.mode == "RGBA":
        red, green, blue, _ = image.split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            image = image.convert("LA")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


@functools.cache
def _letters() -> Mapping[int, int]:
    """The letters of Matplotlib's font, by code point."""
    with style():
        path = font_manager.findfont(font_manager.FontProperties(family=_FONT))
    letters: Mapping[int, int] = font_manager.get_font(path).get_charmap()
    return letters


def _say(group: ET.Element, said: Mapping[str, Any]) -> None:
    """Put the words of an artist into its marks, or a name in the place of its stand-in."""
    if "text" in said:
        (text,) = group.iter("text")
        text.text = said["text"]
        return
    marks = list(group.iter("use")) or list(group.iter("path"))
    for mark, words in zip(marks, said["words"], strict=True):
        ET.SubElement(mark, "title").text = words


def _shorten(node: ET.Element) -> None:
    """Two decimals, no white space around elements, no font, and one style for all the marks of an artist."""
    for key in _ROUNDED:
        if key in node.attrib:
            numbers = re.sub(r"-?\d+\.\d+", lambda found: f"{round(float(found[0]), 2):g}", node.attrib[key])
            node.set(key, " ".join(numbers.split()))
    if node.get("transform", "").startswith("rotate(-0"):
        del node.attrib["transform"]
    if node.tag not in ("text", "title"):
        node.text = None
    node.tail = None
    if "style" in node.attrib:
        _declare(node, {key: value for key, value in _declarations(node).items() if key != "font-family"})
    if node.tag == "defs":
        for shape in node.iter("path"):
            shape.attrib.pop("style", None)  # the same as that of its marks, which would not count beside it
    styles = {child.get("style") for child in node}
    if len(styles) == 1 and len(node) > 1 and all(child.tag == "use" for child in node):
        node.set("style", styles.pop() or "")
        for child in node:
            del child.attrib["style"]


def _flatten(node: ET.Element) -> None:
    """Put the children of groups that say nothing in the place of these groups."""
    children: list[ET.Element] = []
    for child in node:
        _flatten(child)
        children += list(child) if child.tag == "g" and not child.attrib else [child]
    node[:] = children


def _declarations(node: ET.Element) -> dict[str, str]:
    """The style of an element, declaration by declaration."""
    pairs = (part.partition(":") for part in node.get("style", "").split(";") if part.strip())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _declare(node: ET.Element, values: Mapping[str, str]) -> None:
    node.set("style", ";".join(f"{key}:{value}" for key, value in values.items()))


def _local(name: str) -> str:
    """A name without its namespace: a browser draws no `ns1:href`."""
    return name.rpartition("}")[2]
