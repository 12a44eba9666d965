"""Pseudo-labels (Lee 2013): what a classifier of the real subset alone takes the images of the pool for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from pipeline.classifier.network import class_probabilities, network_from
from pipeline.classifier.pool import smoothed
from pipeline.classifier.replicates import train_cells
from pipeline.images import Indices, LabeledImages, index_sha256
from pipeline.params import Augmentation, Classifier, Execution, Pool
from pipeline.runtime.device import configure
from pipeline.study.arms import Arm
from pipeline.study.pool import PseudoLabels
from pipeline.study.training_sets import ReplicateImages


def pseudo_labels(
    train: LabeledImages,
    replicates: Iterable[tuple[LabeledImages, Indices]],
    *,
    count: int,
    classifier: Classifier,
    augmentation: Augmentation,
    pool: Pool,
    seed: int,
    execution: Execution,
    label: str,
) -> Iterator[tuple[int, PseudoLabels]]:
    """Label the pool of each replicate by its classifier of the arm `real_<policy>`; `pool.labelled_by` is the policy.

    That arm's classifier is a cell of the study as well: it is trained once, whoever asks first, and found afterwards.

    Args:
        train: the train split, of which nothing but pixels is read here.
        replicates: the real subset of each, and the positions (M,) of its pool in the train split.
        count: how many replicates these are.
        classifier, augmentation, pool: their sections of the parameters.
        seed: of the whole study.
        execution: where and in what to compute.
        label: a name for the progress display.

    Yields:
        The index of each replicate, and its labels.
    """
    pairs = list(replicates)
    cells, arguments = train_cells(
        [Arm("real", pool.labelled_by)],
        (ReplicateImages(real) for real, _ in pairs),
        count=count,
        synthetic_per_real=0,
        classifier=classifier,
        augmentation=augmentation,
        seed=seed,
        execution=execution,
        label=label,
    )
    device: torch.device = configure(execution)
    for cell, (real, indices) in zip(cells, pairs, strict=True):
        network = network_from(arguments, cell.weights, device)
        probabilities = class_probabilities(network, train.images[indices], device)
        yield (
            real.provenance["replicate"],
            PseudoLabels(
                probabilities.argmax(1).astype("int64"),
                probabilities.max(1),
                index_sha256(indices),
                smoothed(pool.pseudo_label_threshold, classifier.label_smoothing, train.num_classes),
            ),
        )
