"""Figures show every declared thing, give the same bytes twice, and survive odd names and few replicates."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from pipeline import figures
from pipeline.comparison.cells import load_cells
from pipeline.figures import DARK, LIGHT
from pipeline.study.arms import ARMS, Arm

ODD_NAMES = ("<b>", "$x_$", "日本語", "a" * 80)


def texts(figure):
    """All words of a figure, as its SVG holds them."""
    return figures.figure_bytes(figure, "svg").decode()


@pytest.fixture
def study(write_study):
    def read(**arguments):
        files = write_study(**arguments)
        cells, _ = load_cells(files.cells, files.grid)
        return cells, json.loads(files.comparison.read_text())

    return read


def added(comparison):
    return [
        row
        for row in comparison["comparisons"]
        if row["metric"] == "test_accuracy" and row["candidate"] in ("synthetic", "synthetic_affine")
    ]


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


def every_figure(cells, comparison, theme, class_names=("0", "1", "2", "3")):
    number = len(class_names)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (number, 3, 8, 8), dtype=np.uint8)
    counts = rng.integers(0, 20, (number, number)) + 100 * np.eye(number, dtype=np.int64)
    return {
        "ratio_curve": figures.ratio_curve(cells, comparison["arms"], theme=theme),
        "differences": figures.differences(added(comparison), theme=theme),
        "confusion_matrix": figures.confusion_matrix(counts, class_names, "an arm", theme=theme),
        "gan_curves": figures.gan_curves(history(), theme=theme),
        "sample_grid": figures.sample_grid(images, 255 - images, class_names, theme=theme),
        "confusion_difference": figures.confusion_difference(
            counts - counts.T, class_names, "change", theme=theme
        ),
        "pair_gallery": figures.pair_gallery([(images[0, 0], name) for name in class_names], theme=theme),
        "low_data_curve": figures.low_data_curve(*low_data_tables(), theme=theme),
        "f1_differences": figures.f1_differences(rng.normal(0, 0.01, (3, number)), class_names, theme=theme),
    }


def test_the_same_data_gives_the_same_files(study, tmp_path):
    results = study()
    for folder in ("first", "second"):
        for name, figure in every_figure(*results, LIGHT).items():
            figures.save_figure(figure, tmp_path / folder / name)
    first, second = (sorted((tmp_path / folder).iterdir()) for folder in ("first", "second"))
    assert [file.name for file in first] == [file.name for file in second] and len(first) == 2 * 9
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_figure_has_the_background_of_its_theme(study, theme, tmp_path):
    for name, figure in every_figure(*study(), theme).items():
        figures.save_figure(figure, tmp_path / name)
        with Image.open(tmp_path / f"{name}.png") as image:
            corner = np.array(image.convert("RGB").getpixel((1, 1))) / 255
        assert corner == pytest.approx(to_rgb(theme.background), abs=0.01), name
        assert b"<svg" in (tmp_path / f"{name}.svg").read_bytes()


def luminance(colour):
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_stand_out_from_their_background(theme):
    def contrast(colour):
        bright, dim = sorted((luminance(colour), luminance(theme.background)), reverse=True)
        return (bright + 0.05) / (dim + 0.05)

    assert contrast(theme.ink) > 7  # WCAG AAA for text
    lines = (theme.none, theme.affine, theme.elastic, theme.only, theme.fifth, theme.sixth, theme.seventh)
    assert len(set(lines)) == 7 and min(map(contrast, lines)) > 3  # WCAG AA for graphics


def test_the_ratio_curve_has_a_panel_per_budget_and_a_dot_per_cell(study):
    cells, comparison = study(budgets=(60, "all"), ratios=(0.5, 1, 3))
    figure = figures.ratio_curve(cells, comparison["arms"], theme=LIGHT)
    words = texts(figure)
    assert "60 real images" in words and "all real images" in words
    panels = [part.axes for part in figure.subfigs]
    assert [len(axes) for axes in panels] == [2, 2]
    dots = sum(
        len(line.get_xdata())
        for axes in panels
        for panel in axes
        for line in panel.lines
        if line.get_marker() == "."
    )
    assert dots == len(cells)
    for top, bottom in panels:
        assert [label.get_text() for label in bottom.get_xticklabels()] == ["0\nreal only", "0.5", "1", "3"]
        for panel in (top, bottom):
            low, high = panel.get_ylim()
            assert all(
                low <= y <= high for line in panel.lines if line.get_marker() == "." for y in line.get_ydata()
            )


def test_one_replicate_has_no_band_and_no_bar(study):
    cells, comparison = study(replicates=1)
    curve = figures.ratio_curve(cells, comparison["arms"], theme=LIGHT)
    assert not any(axes.collections for part in curve.subfigs for axes in part.axes)
    (axes,) = figures.differences(added(comparison), theme=LIGHT).axes
    assert all(len(line.get_xdata()) == 1 for line in axes.lines if line.get_linestyle() == "None")
    texts(figures.f1_differences(np.array([[0.01, -0.02]]), ("a", "b"), theme=LIGHT))


def test_a_study_without_ratios_still_draws(study):
    cells, comparison = study(ratios=(0,))
    figure = figures.ratio_curve(cells, comparison["arms"], theme=LIGHT)
    assert [len(part.axes) for part in figure.subfigs] == [1]


def test_a_wide_interval_does_not_squeeze_the_replicates(study):
    rows = [
        {
            "budget": 60,
            "candidate": "synthetic",
            "synthetic_per_real": 1.0,
            "classic_augmentation": "none",
            "mean_difference": 0.0,
            "low": -0.5,
            "high": 0.5,
            "differences": [-0.01, 0.01],
        }
    ]
    (axes,) = figures.differences(rows, theme=LIGHT).axes
    low, high = axes.get_xlim()
    assert -5 < low < -1 < 1 < high < 5


def test_a_confusion_matrix_shows_its_counts_and_shades_by_row():
    counts = np.array([[90, 10], [0, 1000]])
    figure = figures.confusion_matrix(counts, ("cat", "dog"), "real only", theme=LIGHT)
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == {"90", "10", "1000"}
    assert axes.images[0].get_array().tolist() == [[0.9, 0.1], [0.0, 1.0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]


def test_many_classes_have_no_counts_but_all_names():
    names = [f"class {index}" for index in range(47)]
    (axes,) = figures.confusion_matrix(np.eye(47, dtype=np.int64), names, "", theme=LIGHT).axes
    assert not axes.texts
    assert [label.get_text() for label in axes.get_xticklabels()] == names


def test_an_empty_row_of_the_confusion_matrix_is_no_division_by_zero():
    texts(figures.confusion_matrix(np.array([[0, 0], [1, 2]]), ("a", "b"), "", theme=LIGHT))


def test_the_sample_grid_shows_each_pixel(tmp_path):
    rng = np.random.default_rng(0)
    real = rng.integers(0, 255, (2, 3, 28, 28), dtype=np.uint8)
    figures.save_figure(figures.sample_grid(real, 255 - real, ("a", "b"), theme=LIGHT), tmp_path / "grid")
    with Image.open(tmp_path / "grid.png") as image:
        pixels = np.asarray(image.convert("L"))

    def is_there(tile):
        zoomed = tile.repeat(2, axis=0).repeat(2, axis=1)
        height, width = zoomed.shape
        rows, columns = np.nonzero(pixels[: -height + 1, : -width + 1] == zoomed[0, 0])
        return any(
            (pixels[row : row + height, column : column + width] == zoomed).all()
            for row, column in zip(rows, columns, strict=True)
        )

    assert all(is_there(tile) for tile in real.reshape(-1, 28, 28))
    assert all(is_there(tile) for tile in (255 - real).reshape(-1, 28, 28))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_odd_class_names_are_drawn_as_they_are(study, theme):
    drawn = every_figure(*study(), theme, class_names=ODD_NAMES)
    for name in ("confusion_matrix", "confusion_difference", "sample_grid", "f1_differences"):
        words = texts(drawn[name])
        assert "&lt;b&gt;" in words and "$x_$" in words and "日本語" in words
        assert "a" * 23 + "…" in words and "a" * 24 not in words


def test_a_users_style_changes_nothing():
    import matplotlib

    plain = texts(figures.gan_curves(history(), theme=LIGHT))
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red"}):
        assert texts(figures.gan_curves(history(), theme=LIGHT)) == plain


def test_every_augmentation_has_a_line_and_controls_have_none(study):
    cells, comparison = study(arms=tuple(ARMS), ratios=(0.5, 1))
    figure = figures.ratio_curve(cells, comparison["arms"], theme=LIGHT)
    words = texts(figure)
    assert all(label in words for label in ("no augmentation", ">affine<", "affine + elastic"))
    lines = [line for line in figure.subfigs[0].axes[0].lines if line.get_linestyle() == "-"]
    assert {len(line.get_xdata()) for line in lines} == {3}  # ratio 0, 0.5 and 1
    mixed = [arm for arm in ARMS.values() if arm.uses_real and arm.uses_synthetic and not arm.fills]
    assert len(lines) == len(mixed)
    rows = [row for row in comparison["comparisons"] if row["metric"] == "test_accuracy"]
    rows = [row for row in rows if row["candidate"].startswith("synthetic_affine_elastic")]
    assert "60 real, affine + elastic, + 0.5" in texts(figures.differences(rows, theme=LIGHT))


def test_an_arm_that_nobody_drew_yet_has_a_line_of_its_own(study, monkeypatch):
    cells, comparison = study(ratios=(0.5, 1))
    monkeypatch.setitem(
        ARMS, "synthetic_sieved", Arm("synthetic_sieved", "real_and_synthetic", "none", "real")
    )
    new = [row | {"arm": "synthetic_sieved"} for row in comparison["arms"] if row["arm"] == "synthetic"]
    lines = figures.mixed_lines([*comparison["arms"], *new])
    assert [line.words for line in lines] == ["no augmentation", "affine", "synthetic sieved"]
    assert lines[-1].arms == ("real", "synthetic_sieved")
    assert len({(line.colour, line.marker) for line in lines}) == 3
    cells = pd.concat([cells, cells[cells["arm"] == "synthetic"].assign(arm="synthetic_sieved")])
    words = texts(figures.ratio_curve(cells, [*comparison["arms"], *new], theme=LIGHT))
    assert "synthetic sieved" in words
    row = added(comparison)[0] | {"candidate": "synthetic_sieved"}
    assert "60 real, synthetic sieved, + 0.5" in texts(figures.differences([row], theme=LIGHT))


def test_the_difference_of_confusion_matrices_says_what_got_better():
    change = np.array([[8, -8], [2, -2]])
    better = figures.better_shares(change)
    assert (better > 0).tolist() == [[True, True], [False, False]]
    assert np.abs(better).max() == 1
    (axes,) = figures.confusion_difference(change, ("cat", "dog"), "change", theme=LIGHT).axes
    assert sorted(text.get_text() for text in axes.texts) == sorted(["+8", "−8", "+2", "−2"])
    texts(figures.confusion_difference(0 * change, ("cat", "dog"), "no change", theme=LIGHT))


def test_the_low_data_curve_has_a_line_per_kind_and_every_dot():
    means, dots = low_data_tables()
    (axes,) = figures.low_data_curve(means, dots, theme=LIGHT).axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["60", "600"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["real only", "best with synthetic"]
    drawn = [line for line in axes.lines if line.get_marker() == "."]
    assert sum(len(line.get_xdata()) for line in drawn) == len(dots)


def test_d_accuracy_on_real_and_fake_has_lines_where_it_was_measured():
    table = history()
    assert ">fake<" not in texts(figures.gan_curves(table, theme=LIGHT))
    table = table.assign(d_accuracy_real=0.6, d_accuracy_fake=0.8)
    words = texts(figures.gan_curves(table, theme=LIGHT))
    assert all(f">{word}<" in words for word in ("pairs", "real", "fake"))
