"""Synthetic images as a data set that others can take away: one module per format, a manifest and a card."""
