"""The classifiers of one stage in one file: weights of every cell, and what each was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.checkpoints import load_checkpoint, refused_if_edited, save_checkpoint
from pipeline.errors import SynthGainError
from pipeline.study.subsets import replicate_number

if TYPE_CHECKING:
    from torch import Tensor

CELLS_KIND = "classifier_cells"
_REAL_PIXELS = "real_pixels"  # beside the names of the weights


@dataclass(frozen=True)
class TrainedCell:
    """One trained classifier.

    Attributes:
        facts: the cell's key columns and how it was trained (JSON values).
        weights: its state dict.
        real_pixels: `pixel_keys` of the real images that had a part in it, its generator's included.
    """

    facts: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    real_pixels: npt.NDArray[np.int64]


def refuse_leak(cell: TrainedCell, held_out_pixels: npt.NDArray[np.int64], *, split: str) -> None:
    """Refuse a classifier that a held-out image had a part in: what it scores there is worth nothing.

    Args:
        cell: the classifier.
        held_out_pixels: `pixel_keys` of the split that is to judge it.
        split: its name.

    Raises:
        SynthGainError: if a real training image, of the classifier or of its generator, is in the split.
    """
    shared = np.intersect1d(cell.real_pixels, held_out_pixels)
    if len(shared):
        key = {name: cell.facts[name] for name in ("budget", "arm", "synthetic_per_real")}
        key["replicate"] = replicate_number(cell.facts["replicate"])
        raise SynthGainError(
            f"{len(shared)} images of the {split} split are among the real training images of the cell"
            f" {', '.join(f'{name} {value}' for name, value in key.items())}: its scores there would be worth"
            " nothing; make the splits again (`dvc repro prepare`) and train again"
        )


def save_cells(path: Path, cells: list[TrainedCell], *, arguments: Mapping[str, Any]) -> None:
    """Write cells that share the constructor arguments of their networks."""
    tensors = {f"{i}.{name}": tensor for i, cell in enumerate(cells) for name, tensor in cell.weights.items()}
    tensors |= {f"{i}.{_REAL_PIXELS}": _tensor(cell.real_pixels) for i, cell in enumerate(cells)}
    metadata = {
        "kind": CELLS_KIND,
        "arguments": dict(arguments),
        "cells": [dict(cell.facts) for cell in cells],
    }
    save_checkpoint(path, tensors, metadata)


def _tensor(array: npt.NDArray[np.int64]) -> Tensor:
    import torch  # two seconds, which a stage with nothing to train need not wait for

    return torch.from_numpy(array)


def load_cells(path: Path) -> tuple[list[TrainedCell], dict[str, Any]]:
    """Read what `save_cells` wrote: the cells, and the constructor arguments.

    Raises:
        SynthGainError: if the file is missing, damaged or of another kind.
    """
    import torch

    from pipeline.classifier.network import network_from

    tensors, metadata = load_checkpoint(path, kind=CELLS_KIND)
    with refused_if_edited(path, kind="file of classifiers", remedy="`dvc repro` makes it again"):
        arguments = dict(metadata["arguments"])
        weights: list[dict[str, Tensor]] = [{} for _ in metadata["cells"]]
        for key, tensor in tensors.items():
            index, name = key.split(".", 1)
            weights[int(index)][name] = tensor
        cells = []
        for facts, tensors_of_cell in zip(metadata["cells"], weights, strict=True):
            real_pixels = tensors_of_cell.pop(_REAL_PIXELS, None)
            if real_pixels is None:
                raise SynthGainError(
                    f"{path}: does not say which images it was trained on; `dvc repro` makes it again"
                )
            network_from(arguments, tensors_of_cell, torch.device("cpu"))
            cells.append(TrainedCell(dict(facts), tensors_of_cell, real_pixels.numpy()))
    return cells, arguments
