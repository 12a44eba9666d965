"""The id of a sample: the same in every format."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

_ID = re.compile(r"(real-)?(0|[1-9]\d*)-(\d{6,})")


def sample_id(label: int, place: int, *, real: bool = False) -> str:
    """`<label>-<place>`: the label, and the image's place among those of that label (at least six digits).

    The place is that in the source: filters and limits leave gaps and change no id. Real images that stand
    beside synthetic ones are called `real-<label>-<place>`.
    """
    return f"{'real-' if real else ''}{label}-{place:06d}"


def parse_id(text: str) -> tuple[int, int, bool] | None:
    """(label, place, real) of an id, None if it is none."""
    found = _ID.fullmatch(text)
    return (int(found[2]), int(found[3]), found[1] is not None) if found else None


def place_in_class(
    labels: npt.NDArray[np.int64], among: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int64]:
    """(N,) int64: how many images of the same label stand before each (of those marked in `among`)."""
    places = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        chosen = labels == label
        counted = np.ones(int(chosen.sum()), dtype=bool) if among is None else among[chosen]
        places[chosen] = np.cumsum(counted) - counted
    return places
