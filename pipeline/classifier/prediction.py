"""What the trained classifiers of a study see in held-out images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.classifier.cells import load_cells, refuse_leak
from pipeline.classifier.network import network_from, predict
from pipeline.images import pixel_keys
from pipeline.params import Execution
from pipeline.progress import Advance, progress
from pipeline.runtime import configure, workers_for
from pipeline.side_by_side import side_by_side

Predictions = npt.NDArray[np.int64]
Splits = Mapping[str, npt.NDArray[np.uint8]]


def predictions_of_cells(
    files: Sequence[Path], splits: Splits, *, execution: Execution
) -> Iterator[tuple[Mapping[str, Any], dict[str, Predictions]]]:
    """The facts of every cell of these files, and the class (N,) that it gives each image of each split.

    On the CPU a file for each thread at once.

    Args:
        files: what `save_cells` wrote.
        splits: name → held-out images (N, 1, H, W) uint8.
        execution: where to compute; in float32, as whoever uses a classifier would.

    Raises:
        SynthGainError: if a file is missing or damaged, or an image of a split had a part in a cell.
    """
    device = configure(execution)
    keys = {name: pixel_keys(images) for name, images in splits.items()}
    work = partial(_predict, splits=splits, keys=keys, device=device)
    workers = workers_for(execution, device, trainings=len(files), threads_each=1)
    with progress("evaluating classifiers", len(files), "files") as advance:
        for _, cells in side_by_side(work, files, workers=workers, advance=advance):
            yield from cells


def _predict(
    file: Path,
    advance: Advance,
    *,
    splits: Splits,
    keys: Mapping[str, npt.NDArray[np.int64]],
    device: torch.device,
) -> list[tuple[Mapping[str, Any], dict[str, Predictions]]]:
    cells, arguments = load_cells(file)
    found = []
    for cell in cells:
        for name in splits:
            refuse_leak(cell, keys[name], split=name)
        network = network_from(arguments, cell.weights, device)
        found.append(
            (cell.facts, {name: predict(network, images, device) for name, images in splits.items()})
        )
    advance(1)
    return found
