"""Charts show every declared thing, in the PNG as in the SVG, give the same bytes anywhere, and survive odd names."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from pipeline.augmentation.policies import POLICIES
from pipeline.comparison.cells import load_cells
from pipeline.report import charts, drawing
from pipeline.report.drawing import COLOURS, LIGHT
from pipeline.study.arms import ARMS, Arm

STUDIED = tuple(
    name
    for name, arm in ARMS.items()
    if arm.policy == "none" or (arm.policy in ("affine", "affine_elastic") and not arm.remedy)
)


ODD_NAMES = ("<b>&amp;", "$x_$", "日本語の名前", "שלום", "قطة", "a" * 80)
NUMBER = r"−?[+]?−?\d+\.\d+"


@pytest.fixture
def study(write_study):
    def read(**arguments):
        files = write_study(**arguments)
        cells, _ = load_cells(files.cells, files.grid)
        return cells, json.loads(files.comparison.read_text())

    return read


@pytest.fixture(scope="module")
def studied(write_shared_study):
    """A study of every kind of arm: its cells and its comparison, which tests only read."""
    files = write_shared_study(arms=STUDIED, ratios=(0.5, 1))
    cells, _ = load_cells(files.cells, files.grid)
    return cells, json.loads(files.comparison.read_text())


def added(comparison):
    return [
        row
        for row in comparison["comparisons"]
        if row["metric"] == "test_accuracy" and row["candidate"] in ("synthetic", "synthetic_affine")
    ]


def difference(candidate="synthetic", ratio=1.0, mean=0.0, half=0.5, differences=(-0.01, 0.01)):
    return {
        "budget": 60,
        "candidate": candidate,
        "synthetic_per_real": ratio,
        "mean_difference": mean,
        "low": mean - half,
        "high": mean + half,
        "differences": list(differences),
    }


def history(replicates=2):
    rng = np.random.default_rng(0)
    images_seen = np.arange(1, 6) * 6400
    return pd.concat(
        pd.DataFrame(
            {
                "replicate": replicate,
                "images_seen": images_seen,
                "d_loss": rng.random(5),
                "g_loss": rng.random(5),
                "d_accuracy": rng.random(5),
                "label_fidelity_1nn": [np.nan, *rng.random(4)],
            }
        )
        for replicate in range(replicates)
    )


def low_data_tables():
    """Two lines at two budgets: their means with intervals, and three replicates each."""
    keys = [(line, budget) for line in ("real only", "best with synthetic") for budget in (60, 600)]
    columns = {"line": [line for line, _ in keys], "budget": [str(budget) for _, budget in keys]}
    columns["real_images"] = [budget for _, budget in keys]
    means = pd.DataFrame({**columns, "mean": [90.0, 95, 91, 96], "low": [89.0, 94, 90, 95], "high": 97.0})
    dots = pd.concat(pd.DataFrame({**columns, "value": means["mean"] + shift}) for shift in (-0.5, 0, 0.5))
    return means, dots


def charts_of_classes(class_names):
    number = len(class_names)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (number, 3, 8, 8), dtype=np.uint8)
    counts = rng.integers(0, 20, (number, number)) + 100 * np.eye(number, dtype=np.int64)
    return {
        "confusion_matrix": charts.confusion_matrix(counts, "an arm of a long name " * 3, class_names),
        "confusion_difference": charts.confusion_difference(counts - counts.T, "change", class_names),
        "f1_differences": charts.f1_differences(rng.normal(0, 0.01, (3, number)), class_names),
        "sample_grid": charts.sample_grid(images, 255 - images, class_names),
        "pair_gallery": charts.pair_gallery(
            [(images[0, 0], name) for name in map(charts.short, class_names)]
        ),
    }


def every_chart(cells, comparison, class_names=("0", "1", "2", "3")):
    return {
        "ratio_curve": charts.ratio_curve(cells, comparison["arms"]),
        "differences": charts.differences(added(comparison)),
        "low_data_curve": charts.low_data_curve(*low_data_tables()),
        "gan_curves": charts.gan_curves(history()),
        **charts_of_classes(class_names),
    }


def marks(tree):
    """Where each mark with words is (centre, in points), and its words."""
    found = []
    for mark in tree.iter():
        title = mark.find("title")
        if title is None:
            continue
        if mark.tag == "use":
            place = float(mark.get("x")), float(mark.get("y"))
        else:
            corners = np.array(re.findall(r"[-\d.]+", mark.get("d")), dtype=float).reshape(-1, 2)
            place = tuple((corners.min(axis=0) + corners.max(axis=0)) / 2)
        found.append((*place, title.text))
    return found


def texts(figure):
    """All texts of a chart, as its SVG holds them."""
    return [node.text for node in drawing.svg_tree(figure).iter("text")]


def value(words):
    """The first number with two decimals, as `replicate 1: 96.25 %` has it."""
    return float(re.search(NUMBER, words)[0].replace("−", "-"))


def lie_on_one_scale(places, values):
    """Whether places are a linear function of values that were rounded to hundredths."""
    slope, start = np.polyfit(values, places, 1)
    return np.abs(np.polyval([slope, start], values) - places).max() < 0.006 * abs(slope) + 0.02


def pixels(figure):
    with Image.open(io.BytesIO(drawing.png(figure))) as image:
        return np.asarray(image.convert("RGB"))


def test_the_ratio_curve_shows_every_cell_where_it_belongs(study):
    cells, comparison = study(ratios=(0.5, 1, 3))
    figure = charts.ratio_curve(cells, comparison["arms"])
    dots = [mark for mark in marks(drawing.svg_tree(figure)) if "replicate" in mark[2]]
    shown = sorted(round(value(words), 2) for _, _, words in dots)
    assert shown == sorted(round(100 * accuracy, 2) for accuracy in cells["test_accuracy"])
    means = [mark for mark in marks(drawing.svg_tree(figure)) if "\nmean" in mark[2]]
    assert sorted(value(words.partition("\n")[2]) for _, _, words in means) == sorted(
        round(100 * row["test_accuracy"], 2) for row in comparison["arms"]
    )
    for only in (True, False):  # each panel has a scale of its own
        panel = [mark for mark in (*dots, *means) if mark[2].startswith("synthetic only") == only]
        heights = [y for _, y, _ in panel]
        assert lie_on_one_scale(heights, [value(words.partition("\n")[2]) for _, _, words in panel])
    assert {"60 real images", "0", "real only", "0.5", "1", "3"} <= set(texts(figure))


def test_the_png_shows_what_the_svg_shows(study):
    counted = 0
    for name, figure in every_chart(*study()).items():
        tree = drawing.svg_tree(figure)
        image = pixels(figure)
        height, width = image.shape[:2]
        _, _, points_wide, points_high = map(float, tree.get("viewBox").split())
        for x, y, words in marks(tree):
            if name == "gan_curves":
                continue  # its marks are not seen: the line is
            # Beside a count of the matrix, not on it.
            shift = 0.0 if name != "confusion_matrix" else 8.0
            pixel = image[int(y / points_high * height - shift), int(x / points_wide * width - shift)]
            if name.startswith("confusion") and "(0.00 %)" not in words and value(f"{words} 9.99") < 1:
                continue  # a shade that is nearly white
            assert np.abs(pixel.astype(int) - 255).sum() > 6, (name, words)
            counted += 1
    assert counted > 80


def test_a_cell_of_the_matrix_has_the_shade_of_its_share():
    counts = np.array([[90, 10], [0, 1000]])
    figure = charts.confusion_matrix(counts, "real only", ("cat", "dog"))
    tree = drawing.svg_tree(figure)
    found = {words: (x, y) for x, y, words in marks(tree)}
    assert list(found) == [
        "cat taken for cat: 90 of 100 (90.00 %)",
        "cat taken for dog: 10 of 100 (10.00 %)",
        "dog taken for dog: 1000 of 1000 (100.00 %)",
    ]
    image = pixels(figure)
    for words, (x, y) in found.items():
        share = float(re.search(r"\(([\d.]+)", words)[1]) / 100
        row, column = (
            round((place - 20) * image.shape[0] / float(tree.get("viewBox").split()[3])) for place in (y, x)
        )
        blended = 1 - share**0.4 * (1 - np.array(to_rgb(LIGHT["blue"])))
        assert image[row, column] / 255 == pytest.approx(blended, abs=0.01)
    assert {"90", "10", "1000", "cat", "dog", "real only"} <= set(texts(figure))


def test_the_page_has_no_colour_of_its_own_and_the_file_no_variable(studied):
    assert len({light for light, _ in COLOURS.values()}) == len(COLOURS)
    for name, figure in every_chart(*studied).items():
        tree = drawing.svg_tree(figure)
        page, file = drawing.svg_of_page(tree, name, "words"), drawing.svg_file(tree).decode()
        drawn = re.sub(r"stroke:#000000;stroke-opacity:0", "", page)  # marks that are not seen
        assert not re.findall(r"#[0-9a-f]{6}", drawn), name
        assert "var(--chart-ink)" in page and "var(" not in file and LIGHT["ink"] in file
    light, dark = (drawing.colour_variables(theme) for theme in (0, 1))
    used = set(re.findall(r"var\((--[\w-]+)\)", page))
    assert used <= set(re.findall(r"(--[\w-]+):", light)) == set(re.findall(r"(--[\w-]+):", dark))


def test_a_colour_as_the_name_of_a_class_stays_a_name():
    names = (LIGHT["blue"], f"fill: {LIGHT['ink']}")
    page = drawing.svg_of_page(
        drawing.svg_tree(charts.f1_differences(np.zeros((2, 2)), names)), "f1", names[0]
    )
    assert all(f">{name}</text>" in page for name in names)
    assert f'aria-label="{names[0]}"' in page


def test_drawings_share_a_page(study):
    pages = [
        drawing.svg_of_page(drawing.svg_tree(figure), name, "words")
        for name, figure in every_chart(*study()).items()
    ]
    ids = [name for page in pages for name in re.findall(r' id="([^"]+)"', page)]
    assert len(ids) == len(set(ids)) > len(pages)
    references = {name for page in pages for name in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)}
    assert {name or other for name, other in references} == set(ids)
    assert not [page for page in pages if re.search(r"xlink|ns\d:|<style|<metadata", page)]


def luminance(colour):
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_from_their_background(theme):
    colours = {name: both[theme] for name, both in COLOURS.items()}

    def contrast(name):
        bright, dim = sorted((luminance(colours[name]), luminance(colours["background"])), reverse=True)
        return (bright + 0.05) / (dim + 0.05)

    assert contrast("ink") > 7  # WCAG AAA for text
    lines = set(colours) - {"background", "ink", "faint"}
    assert (
        len({colours[name] for name in lines}) == 7 and min(map(contrast, lines)) > 3
    )  # WCAG AA for graphics


def test_no_text_is_cut_or_covers_another_of_its_axis(studied):
    cells, comparison = studied
    rows = [
        row
        for row in comparison["comparisons"]
        if row["metric"] == "test_accuracy"
        and ARMS[row["candidate"]].uses_synthetic
        and not ARMS[row["candidate"]].rare_only
    ]
    drawn = {
        "differences": charts.differences(rows),
        "ratio_curve": charts.ratio_curve(cells, comparison["arms"]),
    }
    drawn |= charts_of_classes(
        ("a class of a very long name", "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWW", "漢" * 30, "0", "1")
    )
    for name, figure in drawn.items():
        shown = set(map(drawing.stand_in, texts(figure)))  # a tick beyond the limits of its axis is not
        with drawing.style():
            figure.draw_without_rendering()
            room = figure.bbox
            for text in figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_text()):
                box = text.get_window_extent()
                inside = room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1
                assert inside or not shown & set(text.get_text().split("\n")), (name, text.get_text())
            for axes in figure.axes:
                labels = [label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()]
                labels = sorted(labels, key=lambda box: box.y0)
                assert all(one.y1 <= other.y0 + 2 for one, other in pairwise(labels)), name


def test_one_replicate_has_no_band_and_no_bar(study):
    cells, comparison = study(replicates=1)
    curve = charts.ratio_curve(cells, comparison["arms"])
    assert not any(axes.collections for axes in curve.axes)
    assert all("interval –" in words for _, _, words in marks(drawing.svg_tree(curve)) if "\nmean" in words)
    (axes,) = charts.differences(added(comparison)).axes
    assert all(len(line.get_xdata()) == 1 for line in axes.lines if line.get_linestyle() == "None")
    texts(charts.f1_differences(np.array([[0.01, -0.02]]), ("a", "b")))
    means, dots = low_data_tables()
    (axes,) = charts.low_data_curve(means.assign(low=np.nan, high=np.nan), dots).axes
    assert all(
        np.isnan(path.vertices).any() or not len(path.vertices)
        for band in axes.collections
        for path in band.get_paths()
    )


def test_a_study_without_ratios_still_draws(study):
    cells, comparison = study(ratios=(0,))
    assert len(charts.ratio_curve(cells, comparison["arms"]).axes) == 1


def test_a_wide_interval_does_not_squeeze_the_replicates():
    (axes,) = charts.differences([difference()]).axes
    low, high = axes.get_xlim()
    assert -5 < low < -1 < 1 < high < 5


@pytest.mark.parametrize("gain", [0.02, -0.02])
def test_zero_is_on_the_axis_of_every_difference(gain):
    values = gain + np.array([[0.001, 0.002], [-0.001, 0.0], [0.0, 0.001]])
    one = difference(mean=gain, half=0.001, differences=[gain, gain])
    for figure in (charts.f1_differences(values, ("a", "b")), charts.differences([one])):
        low, high = figure.axes[0].get_xlim()
        assert low <= 0 <= high and low < 100 * gain < high


def test_differences_say_their_arm_their_ratio_and_every_replicate(study):
    _, comparison = study(ratios=(0.5, 1))
    rows = added(comparison)
    figure = charts.differences(rows)
    found = marks(drawing.svg_tree(figure))
    assert len(found) == len(rows) + sum(len(row["differences"]) for row in rows)
    assert lie_on_one_scale(
        [x for x, _, _ in found], [value(words.partition("\n")[2]) for _, _, words in found]
    )
    words = texts(figure)
    assert [text for text in words if text.startswith("+ ")] == ["+ 0.5", "+ 1", "+ 0.5", "+ 1"]
    assert {"real + synthetic", "real + synthetic, affine", "60 real images"} <= set(words)


def test_many_classes_have_no_counts_but_all_names():
    names = [f"class {index}" for index in range(47)]
    figure = charts.confusion_matrix(np.eye(47, dtype=np.int64), "", names)
    assert len(marks(drawing.svg_tree(figure))) == 47  # empty cells are left out
    assert texts(figure) == [*names, "predicted", *names, "actual"]


def test_an_empty_row_of_the_confusion_matrix_is_no_division_by_zero():
    texts(charts.confusion_matrix(np.array([[0, 0], [1, 2]]), "", ("a", "b")))


def test_the_sample_grid_shows_each_pixel():
    rng = np.random.default_rng(0)
    real = rng.integers(0, 255, (2, 3, 28, 28), dtype=np.uint8)
    grey = pixels(charts.sample_grid(real, 255 - real, ("a", "b")))[..., 0]

    def is_there(tile):
        zoomed = tile.repeat(2, axis=0).repeat(2, axis=1)
        height, width = zoomed.shape
        rows, columns = np.nonzero(grey[: -height + 1, : -width + 1] == zoomed[0, 0])
        return any(
            (grey[row : row + height, column : column + width] == zoomed).all()
            for row, column in zip(rows, columns, strict=True)
        )

    assert all(is_there(tile) for tile in real.reshape(-1, 28, 28))
    assert all(is_there(tile) for tile in (255 - real).reshape(-1, 28, 28))


def test_photographs_of_the_page_are_scaled_down_to_their_bytes():
    rng = np.random.default_rng(0)
    real = rng.integers(0, 255, (4, 8, 28, 28), dtype=np.uint8)
    tree = drawing.svg_tree(charts.sample_grid(real, 255 - real, "abcd"))
    whole, small = (drawing.svg_of_page(tree, "samples", "words", most_bytes=most) for most in (None, 6_000))
    assert len(whole) > 50_000 and len(small) < 2 * 8_000 + 4_000


def test_names_in_any_script_are_text_in_the_svg_and_a_png_has_no_boxes():
    for name, figure in charts_of_classes(ODD_NAMES).items():
        words = " ".join(texts(figure))
        assert all(short in words for short in ("<b>&amp;", "$x_$", "日本語の名前", "שלום", "قطة")), name
        assert "a" * 23 + "…" in words and "a" * 24 not in words
        assert "mmm" not in words, "a stand-in is measured, never shown"
    assert drawing.numbered(ODD_NAMES)[2] == "label 2"
    assert drawing.numbered(("cat", "chien à poil", "שלום")) == ["cat", "chien à poil", "שלום"]
    pixels(charts.f1_differences(np.zeros((2, 6)), drawing.numbered(ODD_NAMES)))


def test_a_stand_in_is_as_wide_as_its_name():
    assert drawing.stand_in("cat") == "cat"
    assert len(drawing.stand_in("漢字")) == 2
    assert 1.7 < drawing.text_width("漢字", 72) < 2.0  # two ems of an inch, without the white beside
    assert charts.short("a\nb\x00") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"


def test_a_users_style_changes_nothing():
    plain = drawing.svg_file(drawing.svg_tree(charts.gan_curves(history())))
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red"}):
        assert drawing.svg_file(drawing.svg_tree(charts.gan_curves(history()))) == plain


def test_the_low_data_curve_has_a_line_for_each_policy():
    """A study may have all of them, and the best arm with synthetic images."""
    names = [f"real only, {policy}" for policy in POLICIES] + ["best with synthetic"]
    rows = [
        {"line": name, "budget": str(size), "real_images": size, "mean": 90.0, "low": 89.0, "high": 91.0}
        for name in names
        for size in (100, 1000)
    ]
    means = pd.DataFrame(rows)
    (axes,) = charts.low_data_curve(means, means.assign(value=means["mean"]), metric="macro_f1").axes
    lines = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert [line.get_label() for line in lines] == names
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(names)
    assert axes.get_ylabel() == "test macro-F1 (%)"


def test_every_arm_has_a_look_of_its_own_that_no_other_arm_changes(studied):
    names = [name for name, arm in ARMS.items() if arm.place != "pool" and not arm.rare_only]
    lines = {charts.line_of(name) for name in names}
    assert len({(line.colour, line.marker) for line in lines}) == len(lines)
    lines = {
        charts.line_of(name) for name in STUDIED if ARMS[name].place != "pool" and not ARMS[name].rare_only
    }
    cells, comparison = studied
    panels = charts.ratio_panels(comparison["arms"])
    assert [title for title, _ in panels] == ["", "controls, upper bound", "synthetic images only"]
    assert {line for _, found in panels for line in found} == lines
    assert {line.colour for line in panels[0][1]} <= set(COLOURS)
    figure = charts.ratio_curve(cells, comparison["arms"])
    curves = [line for axes in figure.axes for line in axes.lines if line.get_linestyle() == "-"]
    assert len(curves) == len(lines) and {len(line.get_xdata()) for line in curves} == {2, 3}


def test_a_second_arm_on_synthetic_images_only_has_a_look_of_its_own(monkeypatch):
    before = charts.line_of("synthetic_only")
    arm = Arm("synthetic", "affine")
    monkeypatch.setitem(ARMS, arm.name, arm)
    after = charts.line_of(arm.name)
    assert charts.line_of("synthetic_only") == before
    assert (after.colour, after.marker) != (before.colour, before.marker)


def test_an_arm_that_nobody_drew_yet_has_a_line_of_its_own(study, monkeypatch):
    cells, comparison = study(ratios=(0.5, 1))
    before = {name: charts.line_of(name) for name, arm in ARMS.items() if not arm.rare_only}
    monkeypatch.setitem(
        ARMS,
        "synthetic_sieved",
        Arm("real_and_synthetic", filtered=True, fresh=True, own_name="synthetic_sieved"),
    )
    assert {name: charts.line_of(name) for name in before} == before
    new = [row | {"arm": "synthetic_sieved"} for row in comparison["arms"] if row["arm"] == "synthetic"]
    (_, lines), *_ = charts.ratio_panels([*comparison["arms"], *new])
    assert [line.words for line in lines] == ["no augmentation", "affine", "real + fresh filtered synthetic"]
    assert lines[-1].arms == ("real", "synthetic_sieved")
    assert len({(line.colour, line.marker) for line in lines}) == 3
    cells = pd.concat([cells, cells[cells["arm"] == "synthetic"].assign(arm="synthetic_sieved")])
    assert "real + fresh filtered synthetic" in texts(charts.ratio_curve(cells, [*comparison["arms"], *new]))
    assert "real + fresh filtered synthetic" in texts(charts.differences([difference("synthetic_sieved")]))


def test_a_policy_with_a_baseline_only_is_drawn_among_the_lines_of_the_policies(study, monkeypatch):
    """The table of arms need not have the synthetic images of every policy."""
    cells, comparison = study(ratios=(0.5, 1))
    monkeypatch.setitem(POLICIES, "elastic", ("elastic",))
    for arm in (Arm("real", "elastic"), Arm("real_and_synthetic", "elastic", fresh=True)):
        monkeypatch.setitem(ARMS, arm.name, arm)
    stand_ins = {"real_affine": "real_elastic", "synthetic_affine": "synthetic_fresh_elastic"}
    rows = [row | {"arm": stand_ins.get(row["arm"], row["arm"])} for row in comparison["arms"]]
    cells = cells.assign(arm=cells["arm"].replace(stand_ins))
    (title, lines), *_ = charts.ratio_panels(rows)
    assert title == ""
    assert [line.arms for line in lines] == [
        ("real", "synthetic"),
        ("real_elastic",),
        ("real_elastic", "synthetic_fresh_elastic"),
    ]
    assert len({(line.colour, line.marker) for line in lines}) == 3
    assert "real + fresh synthetic, elastic" in texts(charts.ratio_curve(cells, rows))


def test_the_difference_of_confusion_matrices_says_what_got_better():
    change = np.array([[8, -8], [2, -2]])
    better = charts.better_shares(change)
    assert (better > 0).tolist() == [[True, True], [False, False]]
    assert np.abs(better).max() == 1
    tree = drawing.svg_tree(charts.confusion_difference(change, "change", ("cat", "dog")))
    fills = [mark.get("style") for mark in tree.iter("path") if mark.find("title") is not None]
    assert [LIGHT["blue"] in fill for fill in fills] == [True, True, False, False]
    assert [LIGHT["orange"] in fill for fill in fills] == [False, False, True, True]
    assert [words for _, _, words in marks(tree)][1:3] == ["cat taken for dog: −8", "dog taken for cat: +2"]
    texts(charts.confusion_difference(0 * change, "no change", ("cat", "dog")))


def test_the_low_data_curve_has_a_line_per_kind_and_every_dot():
    means, dots = low_data_tables()
    figure = charts.low_data_curve(means, dots)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["real only", "best with synthetic"]
    found = marks(drawing.svg_tree(figure))
    assert len(found) == len(means) + len(dots) and texts(figure)[:2] == ["60", "600"]
    assert lie_on_one_scale(
        [y for _, y, _ in found], [value(words.partition("\n")[2]) for _, _, words in found]
    )
    assert "real only\n60 real images: 90.00 %, interval 89.00 to 97.00" in [words for _, _, words in found]


def test_a_training_says_its_means_along_its_lines():
    table = history()
    found = marks(drawing.svg_tree(charts.gan_curves(table)))
    assert len(found) == 3 * 5 + 4  # one measurement is missing at the start
    loss = table.groupby("images_seen")["d_loss"].mean()
    shown = [value(words.partition("\n")[2]) for _, _, words in found if "loss, discriminator" in words]
    assert shown == pytest.approx(loss.tolist(), abs=0.005)
    assert "fake" not in texts(charts.gan_curves(table))
    words = texts(charts.gan_curves(table.assign(d_accuracy_real=0.6, d_accuracy_fake=0.8)))
    assert {"pairs", "real", "fake"} <= set(words)
    long = pd.concat([table.assign(images_seen=table["images_seen"] + step) for step in range(0, 6000, 50)])
    assert len(marks(drawing.svg_tree(charts.gan_curves(long)))) == 4 * 40


DRAW_ALL = """
import hashlib, sys
import matplotlib
from matplotlib import font_manager

if sys.argv[1] == "no fonts":
    known, shipped = font_manager.fontManager, matplotlib.get_data_path()
    known.ttflist = [font for font in known.ttflist if font.fname.startswith(shipped)]
import pandas as pd
import json
from pathlib import Path
from tests_of_charts import every_chart
from pipeline.report import drawing

folder = Path(sys.argv[2])
cells = pd.read_csv(folder / "cells.csv", dtype={"budget": str})
names = ("0", "\\u65e5\\u672c", "\\u05e9\\u05dc", "3")
for name, figure in every_chart(cells, json.loads((folder / "comparison.json").read_text()), names).items():
    tree = drawing.svg_tree(figure)
    for data in (drawing.svg_file(tree), drawing.svg_of_page(tree, name, "words").encode()):
        print(name, hashlib.sha256(data).hexdigest())
    figure.set_layout_engine("none")
    print(name, hashlib.sha256(drawing.png(figure)).hexdigest())
"""


def test_another_process_without_fonts_at_another_time_draws_the_same_bytes(write_study, tmp_path):
    files = write_study()
    shutil.copy(__file__, tmp_path / "tests_of_charts.py")
    (tmp_path / "draw_all.py").write_text(DRAW_ALL)
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(tmp_path / "draw_all.py"), fonts, str(files.metrics)],
            env=os.environ | environment | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])},
            stdout=subprocess.PIPE,
            text=True,
        )
        for fonts, environment in (
            ("all fonts", {"PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": "0", "TZ": "UTC"}),
            ("no fonts", {"PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "1700000000", "TZ": "Asia/Tokyo"}),
        )
    ]
    printed = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert printed[0] == printed[1] and len(printed[0].splitlines()) == 3 * 9
