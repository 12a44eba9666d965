"""How good the feature extractor of a data set is: its accuracy, and the Fréchet distance of real from real images."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.generative_metrics.features import Extractor, FeaturesAndProbabilities, statistics_from_features
from pipeline.generative_metrics.fid import fid_floor
from pipeline.images import LabeledImages, stratified_indices
from pipeline.runtime.seeds import derive_seed


def evaluate_extractor(
    features_and_probabilities: FeaturesAndProbabilities,
    extractor: Extractor,
    *,
    train: LabeledImages,
    validation: LabeledImages,
    seed: int,
) -> dict[str, Any]:
    """The JSON values of `data/metrics/extractor.json`.

    The floor compares the validation split with as many train images: the distance of real from real images is
    never 0.

    Args:
        features_and_probabilities: the network.
        extractor: its identity.
        train: the train split, which it was trained on.
        validation: the validation split.
        seed: of the study; draws the train images.

    Returns:
        `validation_accuracy` in 0..1, `feature_dim`, `floor_fid` and its `floor_n`, `extractor_sha256`.
    """
    features, probabilities = features_and_probabilities(validation.images)
    rng = np.random.default_rng(derive_seed(seed, "extractor-floor"))
    size = min(len(validation), len(train))
    sample = train.subset(stratified_indices(train.labels, size, train.num_classes, rng))
    sample_features, _ = features_and_probabilities(sample.images)
    floor = fid_floor(
        real=statistics_from_features(features, extractor=extractor),
        other_real=statistics_from_features(sample_features, extractor=extractor),
    )
    accuracy = float((probabilities.argmax(axis=1) == validation.labels).mean())
    return {
        "validation_accuracy": round(accuracy, 6),
        "feature_dim": features.shape[1],
        "floor_fid": round(floor.value, 6),
        "floor_n": floor.n,
        "extractor_sha256": extractor.sha256,
    }
