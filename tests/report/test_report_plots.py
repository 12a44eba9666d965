"""Interactive plots show what their pictures show: every dot, the zero line, and names as they are."""

import base64
import json

import numpy as np
import pandas as pd
import pytest

from pipeline.comparison.cells import load_cells
from pipeline.figures import DARK, LIGHT, mixed_lines
from pipeline.report import plots
from pipeline.study.arms import ARMS


def dots(plot):
    """The replicates of a plot: markers alone, each with words of its own."""
    return [
        trace
        for trace in plot["data"]
        if trace.get("mode") == "markers" and "replicate" in trace["hovertext"][0]
    ]


def numbers(values):
    """A list of a trace, which Plotly may have packed."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), dtype=np.dtype(values["dtype"])).tolist()
    return values


OPTIONS = ("filtered", "fresh", "fill", "class_weights")


@pytest.fixture
def study(write_study):
    arms = tuple(name for name in ARMS if not any(option in name for option in OPTIONS))
    files = write_study(arms=arms, ratios=(0.5, 1))
    cells, _ = load_cells(files.cells, files.grid)
    return cells, json.loads(files.comparison.read_text())


def test_the_ratio_curve_has_a_dot_per_cell_and_hides_the_controls(study):
    cells, comparison = study
    plot = plots.ratio_curve(cells, comparison["arms"], theme=LIGHT)
    assert sum(len(numbers(trace["x"])) for trace in dots(plot)) == len(cells)
    means = [trace for trace in plot["data"] if trace.get("mode") == "lines+markers"]
    hidden = {trace["name"] for trace in means if trace["visible"] == "legendonly"}
    assert hidden == {
        "synthetic only",
        "real, repeated",
        "real + extra real",
        "real + extra real, affine + elastic",
    }
    assert [trace["name"] for trace in means if trace["visible"] is True] == [
        "no augmentation",
        "affine",
        "affine + elastic",
    ]
    assert plot["layout"]["xaxis"]["ticktext"] == ["0<br>real only", "0.5", "1"]
    assert len({(trace["line"]["color"], trace["marker"]["symbol"]) for trace in means}) == len(means)


def test_every_arm_has_a_look_of_its_own_and_what_fills_rare_classes_no_place(write_study):
    files = write_study(arms=tuple(ARMS), ratios=(0.5, 1))
    cells, _ = load_cells(files.cells, files.grid)
    plot = plots.ratio_curve(cells, json.loads(files.comparison.read_text())["arms"], theme=LIGHT)
    means = [trace for trace in plot["data"] if trace.get("mode") == "lines+markers"]
    assert len({(trace["line"]["color"], trace["marker"]["symbol"]) for trace in means}) == len(means)
    lines = mixed_lines([{"arm": name} for name in ARMS])
    controls = ("synthetic_only", "repeat", "extra_real", "extra_real_affine_elastic")
    assert len(means) == len(lines) + len(controls)


@pytest.mark.parametrize("gain", [0.02, -0.02])
def test_zero_is_on_the_axis_of_every_difference(gain):
    values = gain + np.array([[0.001, 0.002], [-0.001, 0.0], [0.0, 0.001]])
    f1 = plots.f1_differences(values, ("a", "b"), theme=LIGHT)
    row = {
        "budget": 60,
        "candidate": "synthetic",
        "synthetic_per_real": 1,
        "classic_augmentation": "none",
        "mean_difference": gain,
        "low": gain - 0.001,
        "high": gain + 0.001,
        "differences": [gain, gain],
    }
    for plot in (f1, plots.differences([row], theme=LIGHT)):
        low, high = plot["layout"]["xaxis"]["range"]
        assert low <= 0 <= high and low < 100 * gain < high


def test_names_are_shown_as_they_are_and_close_no_script():
    names = ("</script><b>", "&amp; %{x}")
    plot = plots.confusion_matrix(np.array([[5, 1], [0, 7]]), names, names[0], theme=DARK)
    assert plot["layout"]["xaxis"]["ticktext"] == ["&lt;/script&gt;&lt;b&gt;", "&amp;amp; %{x}"]
    assert plot["data"][0]["hovertext"][0][1] == (
        "&lt;/script&gt;&lt;b&gt; taken for &amp;amp; %{x}: 1 of 6 (16.67 %)"
    )
    assert "hovertemplate" not in plot["data"][0]
    text = plots.embedded(plot, plot)
    assert "<" not in text and json.loads(text)["dark"] == plot


def test_many_classes_have_no_counts_in_their_cells():
    plot = plots.confusion_matrix(np.eye(47, dtype=np.int64), [str(i) for i in range(47)], "", theme=LIGHT)
    assert [trace["type"] for trace in plot["data"]] == ["heatmap"]


def test_an_unknown_interval_leaves_no_band():
    means = pd.DataFrame(
        {"line": "real only", "budget": ["60", "all"], "real_images": [60, 600], "mean": [90.0, 95.0]}
    ).assign(low=np.nan, high=np.nan)
    replicates = means.assign(value=means["mean"])
    plot = plots.low_data_curve(means, replicates, theme=LIGHT)
    assert not [trace for trace in plot["data"] if trace.get("fill")]
    assert plot["layout"]["xaxis"]["ticktext"] == ["60", "all"]
    json.dumps(plot, allow_nan=False)


def test_a_measurement_that_is_missing_leaves_a_plot_of_the_rest():
    history = pd.DataFrame(
        {
            "replicate": [0, 0, 1, 1],
            "images_seen": [64, 128, 64, 128],
            "d_loss": [1.0, 0.5, 1.1, 0.6],
            "g_loss": [1.0, 1.5, 1.1, 1.6],
            "d_accuracy": [0.6, 0.7, 0.6, 0.7],
            "label_fidelity_1nn": [np.nan, 0.5, np.nan, 0.6],
        }
    )
    plot = plots.gan_curves(history, theme=LIGHT)
    assert len(plot["data"]) == 4 * 3  # two replicates and a mean of each column
    json.dumps(plot, allow_nan=False)
