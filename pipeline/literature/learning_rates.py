"""The learning-rate study: constant rates from 1e-4 to 6e-4 and a cyclic one, and when their losses balance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.params import Gan

RATES = (1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4)
CYCLIC = "cyclic"
# Cycles between the ends of RATES; one per ten epochs of the paper's fifty.
_CYCLES = 5

# The losses balance where they stay closer than this.
EQUILIBRIUM_GAP = 0.06
_ROWS_OF_TABLE = 10  # every 5 of 50 epochs


def variants(gan: Gan, *, epochs: float) -> dict[str, Gan]:
    """The systems of the study by name: `gan` with each rate for both players, and cycling between the ends.

    The history has a row per epoch, and at least `_ROWS_OF_TABLE` rows.
    """
    points = max(_ROWS_OF_TABLE, round(epochs))
    cyclic = {
        "schedule": "cyclic",
        "cycles": _CYCLES,
        "final_learning_rate_fraction": RATES[0] / RATES[-1],
    }

    def at(rate: float, **changes: Any) -> Gan:
        rates = {"generator_learning_rate": rate, "discriminator_learning_rate": rate}
        return gan.model_copy(update={**rates, "history_points": points, **changes})

    return {**{f"{rate:.4f}": at(rate) for rate in RATES}, CYCLIC: at(RATES[-1], **cyclic)}


def with_epochs(history: pd.DataFrame, *, real_images: int) -> pd.DataFrame:
    """`epoch, d_loss, g_loss, gap` of each row of a training's history.

    The discriminator's cross-entropy is a sum over real and fake images; its *mean* stands here, as in the study:
    at the game's equilibrium both losses are then log 2, and their gap |D − G| is 0.
    """
    d_loss = history["d_loss"] / 2
    return pd.DataFrame(
        {
            "epoch": (history["images_seen"] / real_images).round(4),
            "d_loss": d_loss,
            "g_loss": history["g_loss"],
            "gap": (d_loss - history["g_loss"]).abs(),
        }
    )


def balance_table(losses: pd.DataFrame) -> pd.DataFrame:
    """The rows nearest to each tenth of the training: every 5 epochs of 50."""
    last = len(losses)
    chosen = [math.ceil(last * (part + 1) / _ROWS_OF_TABLE) - 1 for part in range(_ROWS_OF_TABLE)]
    return losses.iloc[sorted(set(chosen))].reset_index(drop=True)


def equilibrium_epoch(losses: pd.DataFrame) -> float | None:
    """The epoch of the first row from which on the gap stays under EQUILIBRIUM_GAP; None where it never does.

    The last row alone does not show that it stays.
    """
    staying = []
    for epoch, gap in reversed(list(zip(losses["epoch"], losses["gap"], strict=True))):
        if not gap < EQUILIBRIUM_GAP:
            break
        staying.append(float(epoch))
    return staying[-1] if len(staying) > 1 else None


def heat_map_tables(losses: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """For both losses: a row per learning rate, a column per epoch."""
    return {
        title: pd.DataFrame(
            {name: table.set_index(table["epoch"])[column] for name, table in losses.items()}
        ).T
        for column, title in (
            ("d_loss", "discriminator loss (mean of real and fake)"),
            ("g_loss", "generator loss"),
        )
    }
