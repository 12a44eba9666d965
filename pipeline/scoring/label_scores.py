"""How sure a classifier is of a label: what the label filter of an export goes by.

A score of more than ½ means that the label is the likeliest one: from there on the filter keeps what that of a study
keeps (`study.label_filter`). Only the judges differ: a study may ask none that knows more than its own real subset.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pipeline.checkpoints import load_checkpoint, refused_if_edited
from pipeline.classifier.network import EXTRACTOR_KIND, class_probabilities, network_from
from pipeline.errors import SynthGainError
from pipeline.runtime.progress import progress

LabelScores = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.int64]], npt.NDArray[np.float32]]

_ROWS = 10_000


def load_label_scores(path: Path, *, class_names: tuple[str, ...]) -> LabelScores:
    """The feature extractor's own classifier as a function.

    It takes images (n, H, W) or (n, C, H, W) uint8 and labels (n,) int64 and gives the softmax probability of each
    label, (n,) float32.

    Raises:
        SynthGainError: if the file is missing, damaged, no feature extractor, or of other classes.
    """
    tensors, metadata = load_checkpoint(path, kind=EXTRACTOR_KIND)
    # On the CPU whatever there is: a score may not depend on the machine's GPU, and small networks are quick.
    device = torch.device("cpu")
    with refused_if_edited(path, kind="feature extractor", remedy="`dvc repro` makes it again"):
        known = tuple(metadata["class_names"])
        network = network_from(metadata["arguments"], tensors, device)
        size = metadata["arguments"]["image_size"]
        shape = (metadata["arguments"].get("image_channels", 1), size, size)
    if known != class_names:
        raise SynthGainError(f"{path}: knows other classes than the images; train it on their real source")

    def label_scores(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        planes = images[:, None] if images.ndim == 3 else images
        if planes.shape[1:] != shape:
            raise SynthGainError(f"{path}: made for images of {shape}, these have {planes.shape[1:]}")
        return class_probabilities(network, planes, device)[np.arange(len(labels)), labels]

    return label_scores


def score_rows(
    label_scores: LabelScores,
    rows: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint8]],
    labels: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """The scores (N,) of images that are read a few rows at a time."""
    scores = np.empty(len(labels), dtype=np.float32)
    with progress("judging labels", len(labels), "images") as advance:
        for start in range(0, len(labels), _ROWS):
            chosen = np.arange(start, min(start + _ROWS, len(labels)))
            scores[chosen] = label_scores(rows(chosen), labels[chosen])
            advance(len(chosen))
    return scores
