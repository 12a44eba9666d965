"""Losses in Paper 3's windows, and its equilibrium."""

import math

import numpy as np
import pandas as pd
import pytest

from pipeline.literature.losses import (
    WINDOWS_OF_20,
    WINDOWS_OF_50,
    equilibrium,
    heat_map_tables,
    losses_by_epoch,
    window_means,
)
from pipeline.literature.page import published_windows
from pipeline.report.charts import loss_heat_maps


def test_at_the_games_equilibrium_the_mean_is_the_generators_loss():
    log2 = math.log(2)
    history = pd.DataFrame({"images_seen": [250, 500], "d_loss": [2 * log2] * 2, "g_loss": [log2] * 2})
    losses = losses_by_epoch(history, real_images=250)
    assert losses["epoch"].tolist() == [1.0, 2.0]
    assert losses["d_loss_mean"].tolist() == losses["g_loss"].tolist() == [log2] * 2
    assert losses["d_loss_sum"].tolist() == [2 * log2] * 2


def losses_of(epochs: int) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1) + 0.004  # whole steps end a little beside an epoch's end
    return pd.DataFrame({"epoch": epoch, "d_loss_sum": np.arange(epochs), "g_loss": 0.5})


def test_windows_are_means_of_five_epochs():
    means = window_means(losses_of(20), WINDOWS_OF_20)
    assert list(means.index) == ["0-5", "6-10", "11-15", "16-20"]
    assert means["d_loss_sum"].tolist() == [2, 7, 12, 17]
    assert list(window_means(losses_of(50), WINDOWS_OF_50).index)[::9] == ["0-4", "45-49"]


def test_heat_maps_have_a_row_per_rate_and_a_column_per_epoch():
    rates = [losses_of(3).assign(system=f"learning_rates/0.000{i}", d_loss_mean=i) for i in (2, 1)]
    tables = heat_map_tables(pd.concat([*rates, losses_of(3).assign(system="balance", d_loss_mean=9.0)]))
    figure = loss_heat_maps(tables)
    for table in tables.values():
        assert list(table.index) == ["0.0001", "0.0002"] and table.shape == (2, 3)
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_allclose(drawn[0], [[1] * 3, [2] * 3])
    np.testing.assert_allclose(drawn[1], 0.5)


def test_only_whole_windows_have_means():
    assert list(window_means(losses_of(12), WINDOWS_OF_20).index) == ["0-5", "6-10"]
    assert window_means(losses_of(3), WINDOWS_OF_20).empty


def test_the_papers_own_table_3_comes_to_its_equilibrium():
    printed = published_windows("balance")
    table = pd.DataFrame(
        {name: map(float, values) for name, values in printed.items()}, index=list(WINDOWS_OF_50)
    )
    assert len(table) == 10
    assert equilibrium(table["d_loss"], table["g_loss"]) == "45-49"
    assert equilibrium(table["d_loss"][:-1], table["g_loss"][:-1]) is None


@pytest.mark.parametrize(
    ("gaps", "window"),
    [
        ([0.5, 0.05, 0.064, 0.01], "b"),  # 0.064 is 0.06 in two decimals
        ([0.01, 0.2, -0.05], "c"),  # it was there before, and did not stay
        ([0.05, 0.07], None),
        ([0.05, math.nan], None),
        ([], None),
    ],
)
def test_equilibrium_is_the_first_window_from_which_the_gap_stays(gaps, window):
    index = list("abcd")[: len(gaps)]
    assert equilibrium(pd.Series(gaps, index, dtype=float), pd.Series(0.0, index)) == window


def test_paper_3s_tables_are_whole():
    for digit in range(1, 7):
        printed = published_windows(f"learning_rates/0.000{digit}")
        assert [len(values) for values in printed.values()] == [4, 4]
