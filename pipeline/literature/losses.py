"""Losses as Paper 3 prints them: in windows of five epochs, as sum and as mean, and when they balance."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

# A column's heading → its epochs, counted from 1. Paper 3 heads a first window 0-5 and another 0-4: both have five.
WINDOWS_OF_20 = {"0-5": (1, 5), "6-10": (6, 10), "11-15": (11, 15), "16-20": (16, 20)}
WINDOWS_OF_50 = {f"{start}-{start + 4}": (start + 1, start + 5) for start in range(0, 50, 5)}

# What Paper 3 calls equilibrium: a gap of 0.06, in the two decimals of its table.
EQUILIBRIUM_GAP = 0.06


def losses_by_epoch(history: pd.DataFrame, *, real_images: int) -> pd.DataFrame:
    """`epoch, d_loss_sum, d_loss_mean, g_loss` of each row of a training's history.

    The cross-entropy that the discriminator minimises is a sum over real and fake images; the mean is half of it. At
    the game's equilibrium the generator's loss and that mean are log 2 = 0.693, and the sum is 1.386.
    """
    return pd.DataFrame(
        {
            "epoch": (history["images_seen"] / real_images).round(4),
            "d_loss_sum": history["d_loss"],
            "d_loss_mean": history["d_loss"] / 2,
            "g_loss": history["g_loss"],
        }
    )


def heat_map_tables(losses: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For both losses: a row per learning rate, a column per epoch; of the losses of the systems `learning_rates/…`."""
    rates = losses[losses["system"].str.startswith("learning_rates/")]
    rates = rates.assign(rate=rates["system"].str.removeprefix("learning_rates/"))
    return {
        title: rates.pivot(index="rate", columns="epoch", values=column)
        for column, title in (
            ("d_loss_mean", "discriminator loss (mean of real and fake)"),
            ("g_loss", "generator loss"),
        )
    }


def window_means(losses: pd.DataFrame, windows: Mapping[str, tuple[int, int]]) -> pd.DataFrame:
    """The means of all columns over the epochs of each window: a row per window, named by it; only whole windows."""
    epochs = losses["epoch"].round().astype(int)
    means = {
        name: losses[epochs.between(first, last)].drop(columns="epoch").mean()
        for name, (first, last) in windows.items()
        if set(range(first, last + 1)) <= set(epochs)
    }
    return pd.DataFrame(means).T


def equilibrium(d_loss: pd.Series, g_loss: pd.Series) -> str | None:
    """The first window from which on the gap |D − G| stays at 0.06 or below; None if it does not end there.

    Windows are means over epochs, so the last one alone is enough: Paper 3's own balance is its last window.
    """
    found = None
    for window, gap in (d_loss - g_loss).abs().round(2)[::-1].items():
        if not gap <= EQUILIBRIUM_GAP:
            break
        found = str(window)
    return found
