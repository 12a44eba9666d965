"""The classifiers of one stage in one file: weights of every cell, and what each was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.checkpoints import load_checkpoint, save_checkpoint
from pipeline.classifier.network import ConvNet

CELLS_KIND = "classifier_cells"


@dataclass(frozen=True)
class TrainedCell:
    """One trained classifier.

    Attributes:
        facts: the cell's key columns and how it was trained (JSON values).
        weights: its state dict.
    """

    facts: Mapping[str, Any]
    weights: Mapping[str, Tensor]


def trained_cell(network: ConvNet, facts: Mapping[str, Any]) -> TrainedCell:
    """Keep a network's weights with its facts."""
    return TrainedCell(facts, {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()})


def save_cells(path: Path, cells: list[TrainedCell], *, arguments: Mapping[str, Any]) -> None:
    """Write cells that share the constructor arguments of their networks."""
    tensors = {f"{i}.{name}": tensor for i, cell in enumerate(cells) for name, tensor in cell.weights.items()}
    metadata = {
        "kind": CELLS_KIND,
        "arguments": dict(arguments),
        "cells": [dict(cell.facts) for cell in cells],
    }
    save_checkpoint(path, tensors, metadata)


def load_cells(path: Path) -> tuple[list[TrainedCell], dict[str, Any]]:
    """Read what `save_cells` wrote: the cells, and the constructor arguments.

    Raises:
        SynthGainError: if the file is missing, damaged or of another kind.
    """
    tensors, metadata = load_checkpoint(path, kind=CELLS_KIND)
    weights: list[dict[str, Tensor]] = [{} for _ in metadata["cells"]]
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        weights[int(index)][name] = tensor
    return [TrainedCell(facts, w) for facts, w in zip(metadata["cells"], weights, strict=True)], metadata[
        "arguments"
    ]
