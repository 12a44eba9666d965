"""The label filter: which synthetic images are kept because classifiers of the real subset see their label too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages, images_sha256
from pipeline.npz import open_npz, write_npz
from pipeline.study.subsets import replicate_number

_DECIMALS = 6


@dataclass(frozen=True, eq=False)
class LabelAgreement:
    """What the judging classifiers of one replicate say.

    Attributes:
        predictions: (N,) int64, their likeliest class of each synthetic image.
        probabilities: (N,) float32, the probability that they give to its label.
        images_sha256: of the pixels and labels they saw: scores belong to these images and no others.
        real_accuracy: share of the real subset's images that their classifiers get right, each image judged by
            those that have not trained on it; how good the judges are.
        real_accepted: (C,) float64, the share of each class's real images that a filter with the same rule and
            these judges accepts; NaN for a class without any.
    """

    predictions: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    images_sha256: str
    real_accuracy: float
    real_accepted: npt.NDArray[np.float64]


def accepts(
    predictions: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    *,
    least_probability: float,
) -> npt.NDArray[np.bool_]:
    """(N,) bool, the rule: the label is the likeliest class, and at least this likely."""
    kept: npt.NDArray[np.bool_] = (predictions == labels) & (probabilities >= np.float32(least_probability))
    return kept


def accepted_images(
    synthetic: LabeledImages, agreement: LabelAgreement, *, least_probability: float
) -> LabeledImages:
    """The synthetic images that the filter keeps, in their order; the provenance says how they were chosen.

    Raises:
        SynthGainError: if other images were judged.
    """
    if agreement.images_sha256 != images_sha256(synthetic):
        raise SynthGainError(
            "the label filter judged other synthetic images than these; run `dvc repro` to judge them again"
        )
    keep = accepts(
        agreement.predictions, agreement.probabilities, synthetic.labels, least_probability=least_probability
    )
    return synthetic.subset(
        np.flatnonzero(keep),
        {
            **synthetic.provenance,
            "label_filter": {
                "least_probability": least_probability,
                "judged": synthetic.counts().tolist(),
            },
        },
    )


def acceptance(
    synthetic: LabeledImages, agreement: LabelAgreement, *, least_probability: float
) -> Mapping[str, Any]:
    """What a filter keeps of one replicate: shares in 0..1, by class and in all, beside real images."""
    keep = accepts(
        agreement.predictions, agreement.probabilities, synthetic.labels, least_probability=least_probability
    )
    kept = np.bincount(synthetic.labels[keep], minlength=synthetic.num_classes)
    names = synthetic.class_names
    return {
        "accepted": _rounded(keep.mean()),
        "accepted_per_class": dict(
            zip(names, map(_rounded, kept / np.maximum(synthetic.counts(), 1)), strict=True)
        ),
        "real_accepted_per_class": dict(zip(names, map(_rounded, agreement.real_accepted), strict=True)),
        "judges_accuracy_on_real": _rounded(agreement.real_accuracy),
    }


def save_agreements(path: Path, agreements: Mapping[int, LabelAgreement]) -> None:
    """Write those of the replicates of a budget, by index, into one `.npz`; the same content gives the same bytes."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    facts: list[dict[str, Any] | None] = [None] * (
        1 + max(agreements, default=-1)
    )  # a replicate may be left out
    for replicate, agreement in agreements.items():
        arrays[f"{replicate}.predictions"] = agreement.predictions.astype(np.uint16)
        arrays[f"{replicate}.probabilities"] = agreement.probabilities
        arrays[f"{replicate}.real_accepted"] = agreement.real_accepted
        facts[replicate] = {
            "images_sha256": agreement.images_sha256,
            "real_accuracy": agreement.real_accuracy,
        }
    arrays["facts"] = np.array(json.dumps(facts, sort_keys=True), dtype=np.str_)
    write_npz(path, arrays)


def load_agreement(path: Path, replicate: int) -> LabelAgreement:
    """Read those of one replicate (by index, from 0) from what `save_agreements` wrote.

    Raises:
        SynthGainError: if the file is missing, damaged, or does not hold the replicate.
    """
    with open_npz(
        path,
        damaged=f"no readable label scores of replicate {replicate_number(replicate)}",
        remedy="; `dvc repro` makes them again",
    ) as arrays:
        facts = json.loads(str(arrays["facts"]))[replicate]
        return LabelAgreement(
            arrays[f"{replicate}.predictions"].astype(np.int64),
            arrays[f"{replicate}.probabilities"],
            facts["images_sha256"],
            facts["real_accuracy"],
            arrays[f"{replicate}.real_accepted"],
        )


def _rounded(share: Any) -> float | None:
    return None if np.isnan(share) else round(float(share), _DECIMALS)
