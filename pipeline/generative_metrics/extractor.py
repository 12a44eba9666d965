"""How good the feature extractor of a data set is: its accuracy, and the Fréchet distance of real from real images."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.generative_metrics.features import Extractor, FeaturesAndProbabilities, statistics_from_features
from pipeline.generative_metrics.fid import fid_floor
from pipeline.images import LabeledImages
from pipeline.runtime.seeds import derive_seed


def evaluate_extractor(
    features_and_probabilities: FeaturesAndProbabilities,
    extractor: Extractor,
    *,
    validation: LabeledImages,
    seed: int,
) -> dict[str, Any]:
    """The JSON values of `data/metrics/extractor.json`.

    The floor compares two halves of the validation split, on which nothing was trained: the distance of real from real
    images is never 0.

    Args:
        features_and_probabilities: the network.
        extractor: its identity.
        validation: the validation split.
        seed: of the study; draws the halves.

    Returns:
        `validation_accuracy` in 0..1, `feature_dim`, `floor_fid` and its `floor_n`, `extractor_sha256`.
    """
    features, probabilities = features_and_probabilities(validation.images)
    rng = np.random.default_rng(derive_seed(seed, "extractor-floor"))
    half = len(validation) // 2
    first, second = rng.permutation(len(validation))[: 2 * half].reshape(2, half)
    real, other_real = (
        statistics_from_features(features[chosen], extractor=extractor) for chosen in (first, second)
    )
    floor = fid_floor(real=real, other_real=other_real)
    accuracy = float((probabilities.argmax(axis=1) == validation.labels).mean())
    return {
        "validation_accuracy": round(accuracy, 6),
        "feature_dim": features.shape[1],
        "floor_fid": round(floor.value, 6),
        "floor_n": floor.n,
        "extractor_sha256": extractor.sha256,
    }
