"""What a study cannot do with the images at hand: said by `prepare`, before hours of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.budget import INCEPTION_FEATURES, class_counts
from pipeline.images import LABELS_OF_A_BYTE, LabeledImages


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
) -> None:
    """Refuse a study that would train first and fail afterwards.

    The generative metrics compare the same number of images of each class from test, validation and every generator.

    Args:
        train, validation, test: the splits.
        images_per_class: of each generator.
        images, features, neighbors: as in `evaluation`.
        feature_dim: of the extractor.
        formats: of the export.

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
    problems = _format_problems(train.num_classes, formats)
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


def _format_problems(classes: int, formats: Sequence[str]) -> list[str]:
    found = [name for name in formats if name in ("idx", "idx_gz")]
    if not found or classes <= LABELS_OF_A_BYTE:
        return []
    return [
        f"export.formats: found {', '.join(found)} for {classes} classes; its label byte allows {LABELS_OF_A_BYTE}:"
        " take parquet, npz or another one instead"
    ]
