"""What the trained classifiers of a study see in held-out images. A cell that was scored before is not scored again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.checkpoints import load_checkpoint, save_checkpoint, tensors_sha256
from pipeline.classifier.network import network_from, predict
from pipeline.classifier.saved_cells import TrainedCell, load_cells, refuse_leak
from pipeline.images import pixel_keys
from pipeline.params import Execution
from pipeline.runtime.device import configure, workers_for
from pipeline.runtime.parallel import parallel_map
from pipeline.runtime.progress import Advance, progress
from pipeline.runtime.store import find_result, keep_result, result_key, this_store

Predictions = npt.NDArray[np.int64]
Splits = Mapping[str, npt.NDArray[np.uint8]]
_KIND, _FILE = "predictions", "predictions.safetensors"


def predictions_of_cells(
    files: Sequence[Path], splits: Splits, *, execution: Execution
) -> Iterator[tuple[Mapping[str, Any], dict[str, Predictions]]]:
    """The facts of every cell of these files, and the class (N,) that it gives each image of each split.

    On the CPU a file for each thread at once. Says at the end how many cells were scored and how many found.

    Args:
        files: what `save_cells` wrote.
        splits: name → held-out images (N, C, H, W) uint8.
        execution: where to compute; in float32, as whoever uses a classifier would.

    Raises:
        SynthGainError: if a file is missing or damaged, or an image of a split had a part in a cell.
    """
    device = configure(execution)
    work = partial(
        _predict_file,
        splits=splits,
        keys={name: pixel_keys(images) for name, images in splits.items()},
        digests={name: hashlib.sha256(images.tobytes()).hexdigest() for name, images in splits.items()},
        device=device,
        store=this_store(),
    )
    workers = workers_for(execution, device, trainings=len(files), threads_each=1)
    scored = found = 0
    with progress("evaluating classifiers", len(files), "files") as advance:
        for _, cells in parallel_map(work, files, workers=workers, advance=advance):
            for facts, predictions, is_new in cells:
                scored, found = scored + is_new, found + (not is_new)
                yield facts, predictions
    print(f"cells: {scored} scored, {found} found finished", flush=True)


def _predict_file(
    file: Path,
    advance: Advance,
    *,
    splits: Splits,
    keys: Mapping[str, npt.NDArray[np.int64]],
    digests: Mapping[str, str],
    device: torch.device,
    store: Path,
) -> list[tuple[Mapping[str, Any], dict[str, Predictions], bool]]:
    """Facts and predictions of each cell of a file, and whether they were computed now."""
    cells, arguments = load_cells(file)
    results = []
    for cell in cells:
        for name in splits:
            refuse_leak(cell, keys[name], split=name)
        predictions, is_new = _find_or_predict(cell, arguments, splits, digests, device, store)
        results.append((cell.facts, predictions, is_new))
    advance(1)
    return results


def _find_or_predict(
    cell: TrainedCell,
    arguments: Mapping[str, Any],
    splits: Splits,
    digests: Mapping[str, str],
    device: torch.device,
    store: Path,
) -> tuple[dict[str, Predictions], bool]:
    key = result_key(
        _KIND,
        predict,
        recipe={"arguments": dict(arguments), "weights": tensors_sha256(cell.weights)},
        data="".join(f"{name} {digest}" for name, digest in sorted(digests.items())),
        device=device,
        dtype=torch.float32,
    )
    if found := find_result(store, key):
        tensors, _ = load_checkpoint(found / _FILE, kind=_KIND)
        return {name: tensors[name].numpy().astype(np.int64) for name in splits}, False
    network = network_from(arguments, cell.weights, device)
    predictions = {name: predict(network, images, device) for name, images in splits.items()}
    with keep_result(store, key) as folder:
        tensors = {name: torch.from_numpy(values.astype(np.int32)) for name, values in predictions.items()}
        save_checkpoint(folder / _FILE, tensors, {"kind": _KIND})
    return predictions, True
