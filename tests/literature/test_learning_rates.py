"""The learning-rate study's tables: units of a loss, the balance table, and when an equilibrium is one."""

import math

import numpy as np
import pandas as pd
import pytest

from pipeline.literature.learning_rates import (
    balance_table,
    equilibrium_epoch,
    heat_map_tables,
    with_epochs,
)
from pipeline.report.charts import loss_heat_maps


def losses(gaps, epochs=None) -> pd.DataFrame:
    count = len(gaps)
    return pd.DataFrame(
        {
            "epoch": np.arange(1.0, count + 1) if epochs is None else epochs,
            "d_loss": 0.7,
            "g_loss": 0.7 + np.array(gaps),
            "gap": np.abs(gaps),
        }
    )


def test_at_the_games_equilibrium_the_gap_is_0():
    # D cannot tell: both its terms are log 2, and so is the generator's loss.
    history = pd.DataFrame(
        {"images_seen": [500, 1000], "d_loss": [2 * math.log(2)] * 2, "g_loss": [math.log(2)] * 2}
    )
    table = with_epochs(history, real_images=250)
    assert table["epoch"].tolist() == [2.0, 4.0]
    assert table["gap"].max() == pytest.approx(0, abs=1e-12)
    assert table["d_loss"].tolist() == pytest.approx([math.log(2)] * 2)


def test_the_gap_is_the_distance_of_the_two_losses():
    history = pd.DataFrame({"images_seen": [100], "d_loss": [1.56], "g_loss": [0.84]})
    assert with_epochs(history, real_images=100)["gap"][0] == pytest.approx(0.06)  # the paper's 0.78 and 0.84


def test_fifty_epochs_give_a_row_every_five():
    table = balance_table(losses(np.linspace(1, 0, 50)))
    assert table["epoch"].tolist() == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]


@pytest.mark.parametrize("rows", [1, 3, 10, 11])
def test_short_trainings_keep_their_last_row(rows):
    table = balance_table(losses(np.linspace(1, 0, rows)))
    assert table["epoch"].iloc[-1] == rows and len(table) == min(rows, 10)


@pytest.mark.parametrize(
    ("gaps", "epoch"),
    [
        ([0.5, 0.2, 0.05, 0.01, 0.03], 3),
        ([0.01, 0.2, 0.05, -0.05], 3),  # it was under before, and did not stay
        ([0.05, 0.05], 1),
        ([0.05, 0.05, 0.06], None),  # at the end it is not *under*
        ([0.5, 0.4, 0.01], None),  # one row does not show that it stays
        ([0.5, math.nan, math.nan], None),
    ],
)
def test_equilibrium_is_where_the_gap_first_stays_under(gaps, epoch):
    assert equilibrium_epoch(losses(gaps)) == epoch


def test_heat_maps_have_a_row_per_rate_and_a_column_per_epoch():
    tables = heat_map_tables({"0.0001": losses([0.1, 0.2, 0.3]), "cyclic": losses([0.4, 0.5, 0.6])})
    for table in tables.values():
        assert list(table.index) == ["0.0001", "cyclic"] and list(table.columns) == [1, 2, 3]
    d_losses, g_losses = tables.values()
    assert (d_losses == 0.7).all(axis=None)
    assert g_losses.loc["cyclic", 2.0] == pytest.approx(1.2)
    figure = loss_heat_maps(tables)
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_allclose(drawn[1], g_losses.to_numpy())
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0.0001", "cyclic"]
