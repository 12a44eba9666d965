"""The arms of the study, and the real subset and the training set of each cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.images import Indices, LabeledImages, concatenate, index_sha256, stratified_indices
from pipeline.mixing import (
    TrainingSet,
    copies,
    drawn_anew,
    images_wanted,
    mix,
    repeated,
    take_counts,
    take_per_class,
)
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
        fresh: whether each pass over the real images draws other synthetic ones from all that were generated.
        fills: whether the images beyond the real subset go to its rare classes only, up to the common count; an
            arm on the real subset alone weights their losses instead.
        copies_only: whether classic augmentation is for the images beyond the real subset only.
    """

    name: ArmName
    images: Images
    classic_augmentation: Classic
    baseline: ArmName | None
    filtered: bool = False
    fresh: bool = False
    fills: bool = False
    copies_only: bool = False

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
    Arm("synthetic_fresh", "real_and_synthetic", "none", baseline="real", fresh=True),
    Arm("synthetic_fresh_affine", "real_and_synthetic", "affine", baseline="real_affine", fresh=True),
    Arm(
        "synthetic_fresh_affine_elastic",
        "real_and_synthetic",
        "affine_elastic",
        baseline="real_affine_elastic",
        fresh=True,
    ),
    Arm(
        "synthetic_fresh_filtered_affine_elastic",
        "real_and_synthetic",
        "affine_elastic",
        baseline="real_affine_elastic",
        filtered=True,
        fresh=True,
    ),
)
# At every ratio above 0, with other images in the place of the synthetic ones: not trained again when the GAN
# changes. Equal steps on repeated real images show what size alone does; extra real images are the upper bound.
CONTROL_ARMS = (
    Arm("repeat", "real_repeated", "none", baseline="real"),
    Arm("extra_real", "real_and_extra", "none", baseline="real"),
    Arm("extra_real_affine_elastic", "real_and_extra", "affine_elastic", baseline="real_affine_elastic"),
)
# Once per budget, for a real subset with rare classes (study.imbalance): what brings them up to the common count.
# Those without synthetic images are trained with the baselines: no change of the GAN retrains them.
REMEDY_ARMS = (
    Arm("fill_repeat", "real_repeated", "none", baseline="real", fills=True),
    Arm("class_weights", "real", "none", baseline="real", fills=True),
    Arm("fill_affine", "real_repeated", "affine", baseline="real", fills=True, copies_only=True),
    Arm(
        "fill_repeat_affine_elastic",
        "real_repeated",
        "affine_elastic",
        baseline="real_affine_elastic",
        fills=True,
    ),
    Arm("fill_extra_real", "real_and_extra", "none", baseline="real", fills=True),
)
FILL_ARMS = (
    Arm("fill_synthetic", "real_and_synthetic", "none", baseline="real", fills=True),
    Arm(
        "fill_synthetic_affine_elastic",
        "real_and_synthetic",
        "affine_elastic",
        baseline="real_affine_elastic",
        fills=True,
    ),
)
ARMS: Mapping[str, Arm] = {
    str(arm.name): arm for arm in (*BASELINE_ARMS, *REMEDY_ARMS, *FILL_ARMS, *AUGMENTED_ARMS, *CONTROL_ARMS)
}
# What `study.imbalance` must leave of a class: one image has no variety to learn, and a judge of the label filter
# that does not see it would not know the class.
_FEWEST_OF_A_CLASS = 2
Imbalance = Mapping[str, int | float]  # class name → its share of the common count; empty: none is rare


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


def parse_ratio(text: str) -> int | float:
    """The ratio that DVC wrote on a command line, as it stands in params.yaml: `str` gives the same text again."""
    try:
        ratio = int(text) if text.isdecimal() else float(text)
    except ValueError:
        ratio = math.nan
    if not 0 <= ratio < math.inf:
        raise SynthGainError(f"--synthetic-per-real: found {text}; a number from 0 on")
    return ratio


def subset_indices(
    train: LabeledImages,
    *,
    budget: Budget,
    replicate: int,
    seed: int,
    imbalance: Imbalance = MappingProxyType({}),
) -> Indices:
    """The positions of one replicate's real images in the train split: a stratified draw of its own, ascending.

    Of a class that `imbalance` names, only so large a share of the *common count* stays: the mean count of the
    classes that it does not name. The images of the others are those of the balanced draw.

    Raises:
        SynthGainError: if the budget is larger than the split, or as `rare_counts`.
    """
    if budget == "all":
        indices = np.arange(len(train), dtype=np.int64)
    elif budget > len(train):
        raise SynthGainError(f"study.real_images: found {budget}; the train split has {len(train)} images")
    else:
        rng = np.random.default_rng(derive_seed(seed, "subset", budget, replicate))
        indices = stratified_indices(train.labels, budget, train.num_classes, rng)
    if not imbalance:
        return indices
    rng = np.random.default_rng(derive_seed(seed, "rare", budget, replicate))
    kept = rare_counts(train.subset(indices), imbalance)
    labels = train.labels[indices]
    chosen = [rng.permutation(indices[labels == label])[:count] for label, count in enumerate(kept.tolist())]
    return np.sort(np.concatenate(chosen))


def rare_counts(balanced: LabeledImages, imbalance: Imbalance) -> npt.NDArray[np.int64]:
    """(num_classes,) int64: how many images of each class stay when `imbalance` makes some of them rare.

    Raises:
        SynthGainError: if a class is unknown, none stays common, or fewer than two images of a class would stay.
    """
    names = balanced.class_names
    unknown = [name for name in imbalance if name not in names]
    if unknown:
        raise SynthGainError(
            f"study.imbalance: found class {unknown[0]}; the classes are {', '.join(names[:50])}"
        )
    rare = np.isin(names, list(imbalance))
    if rare.all():
        raise SynthGainError("study.imbalance: names every class; at least one must stay as it is")
    counts = balanced.counts()
    common = counts[~rare].mean()
    for label in np.flatnonzero(rare).tolist():
        fraction = imbalance[names[label]]
        counts[label] = min(counts[label], round(float(fraction * common)))
        if counts[label] < _FEWEST_OF_A_CLASS:
            raise SynthGainError(
                f"study.imbalance: found {fraction} for class {names[label]}, which leaves {counts[label]} of"
                f" {common:.0f} images; at least {_FEWEST_OF_A_CLASS} are needed: raise it to"
                f" {math.ceil(100 * _FEWEST_OF_A_CLASS / common) / 100}, or study.real_images"
            )
    return counts


def missing_counts(real: LabeledImages) -> npt.NDArray[np.int64]:
    """(num_classes,) int64: how many images each rare class of a real subset lacks to the common count."""
    rare = np.isin(real.class_names, list(real.provenance.get("imbalance", {})))
    counts = real.counts()
    missing: npt.NDArray[np.int64] = np.where(rare, np.rint(counts[~rare].mean()) - counts, 0).astype(
        np.int64
    )
    return np.maximum(missing, 0)


def real_subset(
    train: LabeledImages,
    *,
    budget: Budget,
    replicate: int,
    seed: int,
    imbalance: Imbalance = MappingProxyType({}),
) -> LabeledImages:
    """The real images of one replicate: its own stratified draw from the train split.

    The provenance carries `real_subset_sha256`, the hash of the positions in the train split: the generator
    trained on them keeps it, and mixing asserts that both are the same. It names the rare classes, if any.

    Raises:
        SynthGainError: as `subset_indices`.
    """
    indices = subset_indices(train, budget=budget, replicate=replicate, seed=seed, imbalance=imbalance)
    provenance = {
        "kind": "real",
        "budget": budget,
        "replicate": replicate,
        "real_subset_sha256": index_sha256(indices),
        **({"imbalance": dict(imbalance)} if imbalance else {}),
    }
    return train.subset(indices, provenance)


def extra_real_images(
    train: LabeledImages,
    *,
    budget: Budget,
    replicate: int,
    images_per_real: float | None,
    seed: int,
    imbalance: Imbalance = MappingProxyType({}),
) -> LabeledImages | None:
    """Per class, `images_per_real` real images for each one of the subset, from the rest of the train split.

    With `images_per_real` None, as many as each rare class lacks to the common count.

    A larger draw of the same replicate holds the smaller one, so that ratios differ in their size alone.

    Returns:
        None where the split has too few others of a class: this arm cannot be trained there.

    Raises:
        SynthGainError: as `subset_indices`.
    """
    taken = subset_indices(train, budget=budget, replicate=replicate, seed=seed, imbalance=imbalance)
    rest = np.setdiff1d(np.arange(len(train), dtype=np.int64), taken)
    real = train.subset(taken, {"imbalance": dict(imbalance)})
    wanted = missing_counts(real) if images_per_real is None else images_wanted(real, images_per_real)
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
) -> TrainingSet:
    """The images that a cell trains on.

    Args:
        arm: which recipe.
        real: the real subset.
        synthetic: images of the generator that was trained on it; for arms that use them.
        extra: as many other real images; for arms that use them.
        synthetic_per_real: images beyond the real ones for each of them, per class. Nothing to an arm that
            fills rare classes.
        seed: of the draw of the synthetic images: arms of a replicate get the same.

    Raises:
        SynthGainError: as `mix`, or if the images of an arm are not given.
    """
    if arm.images == "real":
        return TrainingSet(real, len(real), class_weights=_class_weights(real) if arm.fills else None)
    if arm.images == "real_repeated":
        images = (
            concatenate([real, copies(real, missing_counts(real))], real.provenance)
            if arm.fills
            else repeated(real, 1 + synthetic_per_real)
        )
        return TrainingSet(images, len(images), first_augmented=len(real) if arm.copies_only else 0)
    if arm.uses_extra and extra is not None:
        images = concatenate([real, extra], real.provenance)
        return TrainingSet(images, len(images))
    if synthetic is None or not arm.uses_synthetic:
        raise SynthGainError(f"arm {arm.name}: found no images to train on beside the real ones")
    rng = np.random.default_rng(derive_seed(seed, "mix", str(synthetic_per_real)))
    if arm.fills:
        filling = take_counts(real, synthetic, missing_counts(real), "the gap of study.imbalance", rng)
        return TrainingSet(concatenate([real, filling], real.provenance), len(real))
    if arm.fresh:
        return drawn_anew(real, synthetic, synthetic_per_real)
    if arm.uses_real:
        return TrainingSet(mix(real, synthetic, synthetic_per_real, rng), len(real))
    return TrainingSet(take_per_class(real, synthetic, synthetic_per_real, rng), 0)


def _class_weights(real: LabeledImages) -> npt.NDArray[np.float64]:
    """(num_classes,) float64: the weight that makes a rare class count as if it had the common count of images."""
    counts = np.maximum(real.counts(), 1)
    return 1 + missing_counts(real) / counts


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
