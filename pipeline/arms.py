"""The arms of the study, and the real subset and the training set of each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.errors import SynthGainError
from pipeline.images import Indices, LabeledImages, concatenate, index_sha256, stratified_indices
from pipeline.mixing import images_wanted, mix, repeated, take_per_class
from pipeline.params import ArmName
from pipeline.runtime import derive_seed

Budget = int | Literal["all"]


Images = Literal["real", "real_repeated", "real_and_synthetic", "synthetic", "real_and_extra"]
Classic = Literal["none", "affine", "affine_elastic"]


@dataclass(frozen=True)
class Arm:
    """One training recipe that is compared.

    Attributes:
        name: as in `study.arms`; unique together with the ratio.
        images: what it trains on.
        classic_augmentation: none, affine, or affine and elastic.
        baseline: the arm it is judged against: the same training without what this one adds.
        filtered: whether its synthetic images are only those whose label classifiers of the real subset agree
            with.
    """

    name: ArmName
    images: Images
    classic_augmentation: Classic
    baseline: ArmName | None
    filtered: bool = False

    @property
    def uses_real(self) -> bool:
        """Whether the real subset is among its training images."""
        return self.images != "synthetic"

    @property
    def uses_synthetic(self) -> bool:
        """Whether synthetic images are among its training images."""
        return self.images in ("real_and_synthetic", "synthetic")

    @property
    def uses_extra(self) -> bool:
        """Whether real images beyond the budget are among its training images: what a study cannot have."""
        return self.images == "real_and_extra"


# On the real subset: trained once per budget, and not again when the GAN changes or a ratio is added.
BASELINE_ARMS = (
    Arm("real", "real", "none", baseline=None),
    Arm("real_affine", "real", "affine", baseline="real"),
    Arm("real_affine_elastic", "real", "affine_elastic", baseline="real"),
)
# With synthetic images, at every ratio above 0.
AUGMENTED_ARMS = (
    Arm("synthetic", "real_and_synthetic", "none", baseline="real"),
    Arm("synthetic_affine", "real_and_synthetic", "affine", baseline="real_affine"),
    Arm("synthetic_affine_elastic", "real_and_synthetic", "affine_elastic", baseline="real_affine_elastic"),
    Arm("synthetic_only", "synthetic", "none", baseline="real"),
    Arm("synthetic_filtered", "real_and_synthetic", "none", baseline="real", filtered=True),
    Arm("synthetic_filtered_affine", "real_and_synthetic", "affine", baseline="real_affine", filtered=True),
    Arm(
        "synthetic_filtered_affine_elastic",
        "real_and_synthetic",
        "affine_elastic",
        baseline="real_affine_elastic",
        filtered=True,
    ),
)
# At every ratio above 0, with other images in the place of the synthetic ones: not trained again when the GAN
# changes. Equal steps on repeated real images show what size alone does; extra real images are the upper bound.
CONTROL_ARMS = (
    Arm("repeat", "real_repeated", "none", baseline="real"),
    Arm("extra_real", "real_and_extra", "none", baseline="real"),
    Arm("extra_real_affine_elastic", "real_and_extra", "affine_elastic", baseline="real_affine_elastic"),
)
ARMS: Mapping[str, Arm] = {str(arm.name): arm for arm in (*BASELINE_ARMS, *AUGMENTED_ARMS, *CONTROL_ARMS)}


def declared_arms(arms: Sequence[Arm], names: Sequence[str]) -> list[Arm]:
    """Those of the arms that `study.arms` names, in their own order."""
    return [arm for arm in arms if arm.name in names]


def parse_budget(text: str) -> Budget:
    """The budget that DVC wrote on a command line: a whole number, or all."""
    if text == "all":
        return "all"
    try:
        return int(text)
    except ValueError:
        raise SynthGainError(f"--budget: found {text}; a whole number of images, or all") from None


def subset_indices(train: LabeledImages, *, budget: Budget, replicate: int, seed: int) -> Indices:
    """The positions of one replicate's real images in the train split: a stratified draw of its own, ascending.

    Raises:
        SynthGainError: if the budget is larger than the split.
    """
    if budget == "all":
        return np.arange(len(train), dtype=np.int64)
    if budget > len(train):
        raise SynthGainError(f"study.real_images: found {budget}; the train split has {len(train)} images")
    rng = np.random.default_rng(derive_seed(seed, "subset", budget, replicate))
    return stratified_indices(train.labels, budget, train.num_classes, rng)


def real_subset(train: LabeledImages, *, budget: Budget, replicate: int, seed: int) -> LabeledImages:
    """The real images of one replicate: its own stratified draw from the train split.

    The provenance carries `real_subset_sha256`, the hash of the positions in the train split: the generator
    trained on them keeps it, and mixing asserts that both are the same.

    Raises:
        SynthGainError: as `subset_indices`.
    """
    indices = subset_indices(train, budget=budget, replicate=replicate, seed=seed)
    provenance = {
        "kind": "real",
        "budget": budget,
        "replicate": replicate,
        "real_subset_sha256": index_sha256(indices),
    }
    return train.subset(indices, provenance)


def extra_real_images(
    train: LabeledImages, *, budget: Budget, replicate: int, images_per_real: float, seed: int
) -> LabeledImages | None:
    """Per class, `images_per_real` real images for each one of the subset, from the rest of the train split.

    A larger draw of the same replicate holds the smaller one, so that ratios differ in their size alone.

    Returns:
        None where the split has too few others of a class: this arm cannot be trained there.

    Raises:
        SynthGainError: as `subset_indices`.
    """
    taken = subset_indices(train, budget=budget, replicate=replicate, seed=seed)
    rest = np.setdiff1d(np.arange(len(train), dtype=np.int64), taken)
    wanted = images_wanted(train.subset(taken), images_per_real)
    if (wanted > train.subset(rest).counts()).any():
        return None
    rng = np.random.default_rng(derive_seed(seed, "extra real", budget, replicate))
    labels = train.labels[rest]
    chosen = [rng.permutation(rest[labels == label])[:count] for label, count in enumerate(wanted.tolist())]
    return train.subset(np.concatenate(chosen))


def training_set(
    arm: Arm,
    real: LabeledImages,
    *,
    synthetic: LabeledImages | None = None,
    extra: LabeledImages | None = None,
    synthetic_per_real: float,
    seed: int,
) -> LabeledImages:
    """The images that a cell trains on.

    Args:
        arm: which recipe.
        real: the real subset.
        synthetic: images of the generator that was trained on it; for arms that use them.
        extra: as many other real images; for arms that use them.
        synthetic_per_real: images beyond the real ones for each of them, per class.
        seed: of the draw of the synthetic images: arms of a replicate get the same.

    Raises:
        SynthGainError: as `mix`, or if the images of an arm are not given.
    """
    if arm.images == "real":
        return real
    if arm.images == "real_repeated":
        return repeated(real, 1 + synthetic_per_real)
    if arm.uses_extra and extra is not None:
        return concatenate([real, extra], real.provenance)
    if synthetic is None or not arm.uses_synthetic:
        raise SynthGainError(f"arm {arm.name}: found no images to train on beside the real ones")
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
