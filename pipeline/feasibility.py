"""What a study cannot do with the images at hand: said by `prepare`, before hours of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.budget import INCEPTION_FEATURES, class_counts
from pipeline.images import LabeledImages, formats_for
from pipeline.study.subsets import Budget, Imbalance, scaled_counts, subset_indices


def refuse_impossible_study(
    *,
    train: LabeledImages,
    validation: LabeledImages,
    test: LabeledImages,
    images_per_class: int,
    images: int,
    features: Literal["domain", "inception"],
    feature_dim: int,
    neighbors: int,
    formats: Sequence[str],
    budgets: Sequence[Budget],
    ratios: Sequence[float],
    imbalance: Imbalance,
) -> None:
    """Refuse a study that would train first and fail afterwards.

    The generative metrics compare the same number of images of each class from test, validation and every generator.

    Args:
        train, validation, test: the splits.
        images_per_class: of each generator.
        images, features, neighbors: as in `evaluation`.
        feature_dim: of the extractor.
        formats: of the export.
        budgets, ratios, imbalance: as `study.real_images`, `.synthetic_per_real` and `.imbalance`.

    Raises:
        SynthGainError: a line per problem.
    """
    offered = np.minimum(np.minimum(test.counts(), validation.counts()), images_per_class)
    counts = class_counts(shares=test.counts(), offered=offered, images=images)
    n, fewest, least = int(counts.sum()), int(counts.min()), test.class_names[int(counts.argmin())]
    offer = (
        f"in the shares of the test split's classes, the splits offer {n} images to evaluate (test {len(test)},"
        f" data.validation_images {len(validation)}, evaluation.images {images}, generation.images_per_class"
        f" {images_per_class})"
    )
    more = "bring more images, or raise data.folder_test_fraction of a folder, or what is too low of these"
    problems = _subset_problems(train, images_per_class, budgets, ratios, imbalance)
    try:
        formats_for(formats, num_classes=train.num_classes, channels=train.channels)
    except SynthGainError as error:
        problems.append(f"export.formats: {error}")
    if features == "inception" and n <= INCEPTION_FEATURES:
        problems.append(
            f"evaluation.features: found inception, with {INCEPTION_FEATURES} features; {offer}, and more than that"
            f" are needed: {more}, or set it to domain"
        )
    if n <= feature_dim:
        problems.append(
            f"the test split: {offer}; more than the {feature_dim} features of the extractor are needed: {more}, or"
            f" lower extractor.feature_dim to at most {n - 1}"
        )
    if fewest < 2:
        problems.append(
            f"class {least}: {offer}, {fewest} of this class; at least 2 of each class are needed: {more}"
        )
    if neighbors >= n:
        problems.append(f"evaluation.neighbors: found {neighbors}; {offer}, so 1..{n - 1} is allowed")
    if problems:
        raise SynthGainError("\n".join(problems))


def _subset_problems(
    train: LabeledImages,
    images_per_class: int,
    budgets: Sequence[Budget],
    ratios: Sequence[float],
    imbalance: Imbalance,
) -> list[str]:
    """Real subsets that cannot be drawn, or that need more synthetic images of a class than there will be."""
    needs = []
    for budget in budgets:
        try:  # of each class, all replicates have the same number
            indices = subset_indices(train, budget=budget, replicate=0, seed=0, imbalance=imbalance)
        except SynthGainError as error:
            return [str(error)]
        counts = np.bincount(train.labels[indices], minlength=train.num_classes)
        label, ratio = int(counts.argmax()), max(ratios)
        needs.append((int(scaled_counts(counts, ratio)[label]), int(counts[label]), label, budget))
    needed, count, label, budget = max(needs, key=lambda need: need[0])
    if needed <= images_per_class:
        return []
    return [
        f"generation.images_per_class: found {images_per_class}; class {train.class_names[label]} has {count} images"
        f" in a real subset (study.real_images {budget}), so study.synthetic_per_real {ratio} needs {needed}"
        f" synthetic ones: set it to at least {needed}, or lower the ratio"
    ]
