"""The arms of the study, and the real subset and the training set of each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.errors import SynthGainError
from pipeline.images import Indices, LabeledImages, index_sha256, stratified_indices
from pipeline.mixing import mix, take_per_class
from pipeline.runtime import derive_seed

Budget = int | Literal["all"]


@dataclass(frozen=True)
class Arm:
    """One training recipe that is compared.

    Attributes:
        name: unique together with the ratio.
        uses_real, uses_synthetic: what it trains on.
        classic_augmentation: none, or affine.
    """

    name: str
    uses_real: bool
    uses_synthetic: bool
    classic_augmentation: Literal["none", "affine"]


# Without synthetic images: trained once per budget, and not again when the GAN changes.
BASELINE_ARMS = (
    Arm("real", uses_real=True, uses_synthetic=False, classic_augmentation="none"),
    Arm("real_affine", uses_real=True, uses_synthetic=False, classic_augmentation="affine"),
)
# Each at every ratio above 0.
AUGMENTED_ARMS = (
    Arm("synthetic", uses_real=True, uses_synthetic=True, classic_augmentation="none"),
    Arm("synthetic_affine", uses_real=True, uses_synthetic=True, classic_augmentation="affine"),
    Arm("synthetic_only", uses_real=False, uses_synthetic=True, classic_augmentation="none"),
)


def parse_budget(text: str) -> Budget:
    """The budget that DVC wrote on a command line: a whole number, or all."""
    if text == "all":
        return "all"
    try:
        return int(text)
    except ValueError:
        raise SynthGainError(f"--budget: found {text}; a whole number of images, or all") from None


def real_subset(train: LabeledImages, *, budget: Budget, replicate: int, seed: int) -> LabeledImages:
    """The real images of one replicate: its own stratified draw from the train split.

    The provenance carries `real_subset_sha256`, the hash of the positions in the train split: the generator
    trained on them keeps it, and mixing asserts that both are the same.

    Raises:
        SynthGainError: if the budget is larger than the split.
    """
    if budget == "all":
        indices: Indices = np.arange(len(train), dtype=np.int64)
    elif budget > len(train):
        raise SynthGainError(f"study.real_images: found {budget}; the train split has {len(train)} images")
    else:
        rng = np.random.default_rng(derive_seed(seed, "subset", budget, replicate))
        indices = stratified_indices(train.labels, budget, train.num_classes, rng)
    provenance = {
        "kind": "real",
        "budget": budget,
        "replicate": replicate,
        "real_subset_sha256": index_sha256(indices),
    }
    return train.subset(indices, provenance)


def training_set(
    arm: Arm,
    real: LabeledImages,
    synthetic: LabeledImages | None,
    *,
    synthetic_per_real: float,
    seed: int,
) -> LabeledImages:
    """The images that a cell trains on; `synthetic` is None for arms without."""
    if synthetic is None or not arm.uses_synthetic:
        return real
    rng = np.random.default_rng(derive_seed(seed, "mix", str(synthetic_per_real)))
    if arm.uses_real:
        return mix(real, synthetic, synthetic_per_real, rng)
    return take_per_class(real, synthetic, synthetic_per_real, rng)


def cell_key(
    *, budget: Budget, arm: Arm, synthetic_per_real: float, replicate: int
) -> Mapping[str, int | float | str]:
    """The columns that name a cell in every table."""
    return {
        "budget": budget,
        "arm": arm.name,
        "synthetic_per_real": synthetic_per_real,
        "classic_augmentation": arm.classic_augmentation,
        "replicate": replicate,
    }


def positive_ratios(synthetic_per_real: Sequence[int | float]) -> list[int | float]:
    """The ratios that have arms of their own: 0 means real only, which the baselines are."""
    return [ratio for ratio in synthetic_per_real if ratio > 0]
