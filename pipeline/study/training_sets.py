"""What a cell trains on: real images, and others beside them."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages, concatenate, images_sha256
from pipeline.runtime.seeds import derive_seed
from pipeline.study.arms import Arm
from pipeline.study.pool import (
    PoolSize,
    ReplicatePool,
    collapse_of_self_training,
    load_pseudo_labels,
    pool_indices,
)
from pipeline.study.subsets import FillTo, half_gaps, images_wanted, missing_counts


@dataclass(frozen=True, eq=False)
class ReplicateImages:
    """The images that the cells of one replicate may train on; None: no declared arm needs them, or there are none.

    Attributes:
        real: its real subset.
        synthetic: of the generator that was trained on it.
        accepted: those of them that the label filter accepts.
        extra: other real images; None also where the split has too few: the arms that need them are left out.
        fill_to: what arms for rare classes bring a class up to.
        pool: real images without labels, for arms that use them; of a generator that was trained on them too.
    """

    real: LabeledImages
    synthetic: LabeledImages | None = None
    accepted: LabeledImages | None = None
    extra: LabeledImages | None = None
    fill_to: FillTo = "common"
    pool: ReplicatePool | None = None


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The images that a cell trains on, and how they are shown.

    Attributes:
        images: every image that may be shown, the real ones first.
        real_images: how many of them, from the first on, are real.
        synthetic_per_epoch: (num_classes,) int64: so many synthetic images of each class are drawn for each
            epoch over the real ones, others each time; None: an epoch shows every image once.
        class_weights: (num_classes,) float64, of the losses; None: all equal.
        tail_class_weights: the same for the last steps, which are on the real images only; None: no such steps.
        balanced: whether an epoch shows each class as often as any.
        first_augmented: only images from this position on get the arm's classic augmentation.
    """

    images: LabeledImages
    real_images: int
    synthetic_per_epoch: npt.NDArray[np.int64] | None = None
    class_weights: npt.NDArray[np.float64] | None = None
    tail_class_weights: npt.NDArray[np.float64] | None = None
    balanced: bool = False
    first_augmented: int = 0

    @property
    def mixed(self) -> bool:
        """Whether it has real and synthetic images."""
        return 0 < self.real_images < len(self.images)

    def sha256(self) -> str:
        """The hash of all that a training sees of it."""
        digest = hashlib.sha256(images_sha256(self.images).encode())
        for array in (self.synthetic_per_epoch, self.class_weights, self.tail_class_weights):
            digest.update(b"none" if array is None else array.tobytes())
        facts = f"{self.real_images} {self.first_augmented} {self.images.num_classes} {self.balanced}"
        digest.update(facts.encode())
        return digest.hexdigest()

    def image_weights(self, *, synthetic_weight: float) -> npt.NDArray[np.float32] | None:
        """(N,) float32: the weight of each image's loss, with a mean of 1 over all that an epoch shows.

        `synthetic_weight` is that of a synthetic image beside a real one; alone, synthetic images need none.
        None where all weights are equal.
        """
        if self.class_weights is None and not (self.mixed and synthetic_weight != 1):
            return None
        weights, shown = self._weights_and_showings(synthetic_weight)
        scaled: npt.NDArray[np.float32] = (weights * (shown.sum() / (weights * shown).sum())).astype(
            np.float32
        )
        return scaled

    def tail_weights(self) -> npt.NDArray[np.float32] | None:
        """(real_images,) float32: the weights of the real images' losses in the last steps, with a mean of 1.

        None where there are no such steps of this set.
        """
        if self.tail_class_weights is None:
            return None
        weights = self.tail_class_weights[self.images.labels[: self.real_images]]
        scaled: npt.NDArray[np.float32] = (weights / weights.mean()).astype(np.float32)
        return scaled

    def class_shares(self, *, synthetic_weight: float) -> npt.NDArray[np.float64]:
        """(num_classes,) float64: how much of an epoch's loss is each class's, if every image is equally hard.

        Raises:
            SynthGainError: if a class has no image, or none that counts: what is taken the logarithm of is above 0.
        """
        weights, shown = self._weights_and_showings(synthetic_weight)
        totals = np.bincount(self.images.labels, weights=weights * shown, minlength=self.images.num_classes)
        if not totals.all():
            name = self.images.class_names[int(totals.argmin())]
            raise SynthGainError(
                f"study.arms: logits are adjusted to the shares of the classes, and class {name} has no training image;"
                " at least one of each is needed: raise study.real_images, or remove the arms *logit_adjustment*"
            )
        shares: npt.NDArray[np.float64] = totals / totals.sum()
        return shares

    def _weights_and_showings(
        self, synthetic_weight: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(N,) each: the weight of an image's loss before scaling, and how often an epoch shows it on average."""
        labels = self.images.labels
        weights = np.ones(len(labels)) if self.class_weights is None else self.class_weights[labels]
        shown = np.ones(len(labels))
        if self.mixed and synthetic_weight != 1:
            weights = np.where(np.arange(len(labels)) < self.real_images, weights, weights * synthetic_weight)
        if self.synthetic_per_epoch is not None:
            pool = np.bincount(labels[self.real_images :], minlength=len(self.synthetic_per_epoch))
            shown[self.real_images :] = (self.synthetic_per_epoch / np.maximum(pool, 1))[
                labels[self.real_images :]
            ]
        return weights, shown


def training_set(
    arm: Arm,
    real: LabeledImages,
    *,
    synthetic: LabeledImages | None = None,
    extra: LabeledImages | None = None,
    synthetic_per_real: float,
    seed: int,
    fill_to: FillTo = "common",
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
        fill_to: what an arm that fills rare classes brings a class up to.

    Raises:
        SynthGainError: as `mix`, or if the images of an arm are not given.
    """
    if arm.images == "real":
        return TrainingSet(
            real,
            len(real),
            class_weights=_class_weights(real, fill_to) if arm.remedy == "class_weights" else None,
            tail_class_weights=_tail_class_weights(arm, real, fill_to),
            balanced=arm.remedy == "balanced_sampling",
        )
    if arm.images == "real_repeated":
        images = (
            concatenate([real, copies(real, missing_counts(real, fill_to))], real.provenance)
            if arm.rare_only
            else repeated(real, 1 + synthetic_per_real)
        )
        return TrainingSet(images, len(images), first_augmented=len(real) if arm.copies_only else 0)
    if arm.uses_extra and extra is not None:
        images = concatenate([real, extra], real.provenance)
        return TrainingSet(images, len(images))
    if synthetic is None or not arm.uses_synthetic:
        raise SynthGainError(f"arm {arm.name}: found no images to train on beside the real ones")
    rng = np.random.default_rng(derive_seed(seed, "mix", str(synthetic_per_real)))
    if arm.rare_only:
        purpose = "the gap of study.imbalance" if fill_to == "common" else f"study.fill_to {fill_to}"
        missing = missing_counts(real, fill_to)
        wanted = half_gaps(real.counts(), missing) if arm.fills_half else missing
        filling = take_counts(real, synthetic, wanted, purpose, rng)
        return TrainingSet(
            concatenate([real, filling], real.provenance),
            len(real),
            tail_class_weights=_tail_class_weights(arm, real, fill_to),
        )
    if arm.fresh:
        return fresh_training_set(real, synthetic, synthetic_per_real)
    if arm.uses_real:
        return TrainingSet(mix(real, synthetic, synthetic_per_real, rng), len(real))
    return TrainingSet(take_per_class(real, synthetic, synthetic_per_real, rng), 0)


def _class_weights(real: LabeledImages, fill_to: FillTo) -> npt.NDArray[np.float64]:
    """(num_classes,) float64: the weight that makes a rare class count as if it had the images that it lacks."""
    counts = np.maximum(real.counts(), 1)
    return 1 + missing_counts(real, fill_to) / counts


def _tail_class_weights(arm: Arm, real: LabeledImages, fill_to: FillTo) -> npt.NDArray[np.float64] | None:
    """The same for an arm whose weights begin late; None for others."""
    return _class_weights(real, fill_to) if arm.remedy == "deferred_weights" else None


@dataclass(frozen=True, eq=False)
class ShownPool:
    """What a cell is shown of the pool.

    Attributes:
        images: (M, C, H, W) uint8.
        labels: (M,) int64, what it takes them for; None: it finds out as it trains.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None

    def sha256(self) -> str:
        """The hash of all that a training sees of it."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).tobytes())
        digest.update(b"none" if self.labels is None else self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


def needs_pseudo_labels(arms: Sequence[Arm], generators_train_on: str) -> bool:
    """Whether an arm, or the generator, learns from labels that a classifier gave to the pool."""
    return generators_train_on == "pool" or any(arm.pool == "pseudo_label" for arm in arms)


def replicate_pool(
    train: LabeledImages,
    real: LabeledImages,
    *,
    arms: Sequence[Arm],
    size: PoolSize,
    seed: int,
    pseudo_labels: Path,
) -> ReplicatePool | None:
    """The pool beside a real subset, with the labels that these arms ask for and no others; None without a pool.

    Args:
        train, real, size, seed: as in `pool_indices`.
        arms: those to be trained.
        pseudo_labels: what `save_pseudo_labels` wrote.

    Raises:
        SynthGainError: as `pool_indices` and `load_pseudo_labels`.
    """
    if size == "none":
        return None
    indices = pool_indices(train, real, size=size, seed=seed)
    uses = {arm.pool for arm in arms}
    replicate = real.provenance["replicate"]
    return ReplicatePool(
        train.images[indices],
        load_pseudo_labels(pseudo_labels, replicate, indices) if "pseudo_label" in uses else None,
        train.labels[indices] if "labelled_pool" in uses else None,
    )


def without_collapsed(arms: Sequence[Arm], pseudo_labels: Path) -> list[Arm]:
    """The arms but for those that need pseudo-labels, if self-training collapsed in one replicate of a budget.

    An arm is a mean over the same replicates as any other, so it is left out of all.

    Args:
        arms: of a stage.
        pseudo_labels: what `save_pseudo_labels` wrote.
    """
    needing = [arm for arm in arms if arm.pool == "pseudo_label"]
    collapse = collapse_of_self_training(pseudo_labels) if needing else ""
    if not collapse:
        return list(arms)
    for arm in needing:
        print(
            f"{arm.name}: left out, because self-training collapsed: {collapse}", file=sys.stderr, flush=True
        )
    return [arm for arm in arms if arm not in needing]


def shown_pool(arm: Arm, pool: ReplicatePool | None) -> ShownPool | None:
    """What an arm is shown of a replicate's pool; None for one that does not use it.

    Raises:
        SynthGainError: if what the arm needs of the pool is not given.
    """
    if not arm.pool:
        return None
    if pool is not None and arm.pool == "consistency":
        return ShownPool(pool.images, None)
    if pool is not None and arm.pool == "labelled_pool" and pool.true_labels is not None:
        return ShownPool(pool.images, pool.true_labels)
    if pool is None or arm.pool != "pseudo_label" or (given := pool.pseudo_labels) is None:
        raise SynthGainError(f"arm {arm.name}: found no pool, or not the labels that it needs of it")
    return ShownPool(pool.images[given.kept], given.labels[given.kept])


def mix(
    real: LabeledImages, synthetic: LabeledImages, synthetic_per_real: float, rng: np.random.Generator
) -> LabeledImages:
    """All real images and, per class, `synthetic_per_real` synthetic ones for each of them.

    Raises:
        SynthGainError: if the generator was not trained on exactly these real images, or there are too few
            synthetic ones.
    """
    return concatenate(
        [real, take_per_class(real, synthetic, synthetic_per_real, rng)],
        {**real.provenance, "synthetic_per_real": synthetic_per_real},
    )


def take_per_class(
    real: LabeledImages, synthetic: LabeledImages, synthetic_per_real: float, rng: np.random.Generator
) -> LabeledImages:
    """`synthetic_per_real` synthetic images per real one, class by class, drawn without replacement.

    Counts are rounded to the nearest whole image per class.

    Raises:
        SynthGainError: as `mix`.
    """
    wanted = images_wanted(real, synthetic_per_real)
    return take_counts(real, synthetic, wanted, f"study.synthetic_per_real {synthetic_per_real}", rng)


def fresh_training_set(
    real: LabeledImages, synthetic: LabeledImages, synthetic_per_real: float
) -> TrainingSet:
    """All real images and all synthetic ones, of which each epoch over the real ones shows others.

    The ratio is that of `mix`, and with it the share of synthetic images in a batch; what changes is that they
    come from the whole pool, round and round, and not from one draw of it. A pool that is much larger than the
    draw is what generating anew in every epoch would be.

    Raises:
        SynthGainError: as `mix`.
    """
    _require_own_generator(real, synthetic)
    wanted = images_wanted(real, synthetic_per_real)
    _require_enough(synthetic, wanted, f"study.synthetic_per_real {synthetic_per_real}")
    provenance = {**real.provenance, "synthetic_per_real": synthetic_per_real}
    return TrainingSet(concatenate([real, synthetic], provenance), len(real), synthetic_per_epoch=wanted)


def take_counts(
    real: LabeledImages,
    synthetic: LabeledImages,
    wanted: npt.NDArray[np.int64],
    purpose: str,
    rng: np.random.Generator,
) -> LabeledImages:
    """`wanted` synthetic images of each class, drawn without replacement; `purpose` asks for them, in the error.

    Raises:
        SynthGainError: as `mix`.
    """
    _require_own_generator(real, synthetic)
    _require_enough(synthetic, wanted, purpose)
    chosen = [
        rng.choice(np.flatnonzero(synthetic.labels == label), size=count, replace=False)
        for label, count in enumerate(wanted)
    ]
    return synthetic.subset(np.concatenate(chosen).astype(np.int64))


def _require_own_generator(real: LabeledImages, synthetic: LabeledImages) -> None:
    """Refuse synthetic images of a generator that saw other real images, and those of other classes."""
    wanted_hash, found_hash = (images.provenance.get("real_subset_sha256") for images in (real, synthetic))
    if wanted_hash is None or wanted_hash != found_hash:
        raise SynthGainError(
            f"the synthetic images come from a generator trained on other real images (subset {found_hash})"
            f" than the ones they would be mixed with (subset {wanted_hash}); run `dvc repro` to make them again"
        )
    if real.class_names != synthetic.class_names:
        raise SynthGainError(f"classes differ: real {real.class_names}, synthetic {synthetic.class_names}")


def _require_enough(synthetic: LabeledImages, wanted: npt.NDArray[np.int64], purpose: str) -> None:
    """Refuse to draw more images of a class than there are, and say what to raise."""
    available = synthetic.counts()
    if not (wanted > available).any():
        return
    label = int(np.argmax(wanted - available))
    name, found, needed = synthetic.class_names[label], int(available[label]), int(wanted[label])
    label_filter = synthetic.provenance.get("label_filter")
    if label_filter is None:
        raise SynthGainError(
            f"generation.images_per_class: class {name} has {found} synthetic images; {purpose} needs {needed}"
        )
    judged = int(label_filter["judged"][label])
    # As many as would do at this rate of acceptance, and a tenth more: the rate of other images is another.
    raised = f"to about {math.ceil(1.1 * needed * judged / found)} " if found else ""
    raise SynthGainError(
        f"study.label_filter: found {label_filter['least_probability']}, which accepts {found} of the {judged}"
        f" synthetic images of class {name}; {purpose} needs {needed}: raise generation.images_per_class {raised}or"
        " gan.total_images, or lower study.label_filter"
    )


def repeated(real: LabeledImages, times: float) -> LabeledImages:
    """Each class of the real images over and over, in their order, up to `times` its size."""
    return copies(real, images_wanted(real, times))


def copies(real: LabeledImages, counts: npt.NDArray[np.int64]) -> LabeledImages:
    """`counts` images of each class: its real images over and over, in their order."""
    chosen = [
        np.resize(np.flatnonzero(real.labels == label), count) for label, count in enumerate(counts.tolist())
    ]
    return real.subset(np.concatenate(chosen).astype(np.int64))
