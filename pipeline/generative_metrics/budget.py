"""The images that the metrics of a budget compare, and how many of each class every set has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.images import Indices, LabeledImages, index_sha256
from pipeline.study.pool import PoolSize, labelled_pool
from pipeline.study.subsets import Budget, Imbalance, real_subsets, replicate_number, subset_indices

Counts = npt.NDArray[np.int64]

INCEPTION_FEATURES = 2048  # of the original FID network


@dataclass(frozen=True, eq=False, kw_only=True)
class BudgetImages:
    """A budget's synthetic images, and the real ones that they are compared with.

    Attributes:
        budget: real images the GANs were trained on, or "all".
        replicates: the indices, from 0, of the replicates, in order: all but those that are left out.
        synthetic: the images of each of them.
        train: the train split.
        subsets: of each replicate, the positions in the train split that its GAN was trained on.
        validation: the validation split, on which nothing was trained.
        test: the test split.
        pools: of each replicate, the positions of the images of its pool that its GAN was trained on too; none: empty.
    """

    budget: int | str
    replicates: Sequence[int]
    synthetic: Sequence[LabeledImages]
    train: LabeledImages
    subsets: Sequence[Indices]
    validation: LabeledImages
    test: LabeledImages
    pools: Sequence[Indices] = ()

    def training_positions(self, place: int) -> Indices:
        """(m,) int64: the positions in the train split of what the GAN of a replicate was trained on.

        `place` is the replicate's among those that are there.
        """
        pool = self.pools[place] if self.pools else np.empty(0, dtype=np.int64)
        return np.concatenate([self.subsets[place], pool])

    def training_images(self, place: int) -> LabeledImages:
        """These images; those of the pool with their true labels: here the GAN is judged, not trained."""
        return self.train.subset(self.training_positions(place))

    def refuse_mismatch(self) -> None:
        """Refuse images that do not belong together.

        Raises:
            SynthGainError: if synthetic images are of another budget, replicate or real subset, or classes or sizes
                differ.
        """
        for index, images in zip(self.replicates, self.synthetic, strict=True):
            replicate = replicate_number(index)
            self._refuse_other_kind(images, label=f"synthetic images of replicate {replicate}")
            budget, found = images.provenance.get("budget"), images.provenance.get("replicate")
            if (budget, found) != (self.budget, index):
                said = replicate_number(found) if isinstance(found, int) else found
                raise SynthGainError(
                    f"synthetic images of budget {self.budget}, replicate {replicate}:"
                    f" the file says budget {budget}, replicate {said}; generate them again"
                )
        self._refuse_other_kind(self.train, label="train split")
        self._refuse_other_kind(self.validation, label="validation split")
        made_from = self.synthetic[0].provenance.get("real_subset_sha256")
        expected = index_sha256(self.subsets[0])
        if made_from != expected:
            raise SynthGainError(
                f"synthetic images of replicate {replicate_number(self.replicates[0])}: made from the real subset"
                f" {made_from}, but params.yaml gives {expected}; train the GAN and generate again"
            )

    def _refuse_other_kind(self, images: LabeledImages, *, label: str) -> None:
        shape, test_shape = images.images.shape[1:], self.test.images.shape[1:]
        if images.class_names != self.test.class_names or shape != test_shape:
            raise SynthGainError(
                f"{label}: found {images.num_classes} classes, images {shape};"
                f" the test split has {self.test.num_classes} and {test_shape}, or other class names;"
                " run the pipeline again"
            )


def load_budget_images(
    *,
    budget: Budget,
    replicates: Sequence[int],
    seed: int,
    imbalance: Imbalance,
    pool: PoolSize,
    synthetic: Path,
    train: Path,
    validation: Path,
    test: Path,
    labels: Path,
) -> BudgetImages:
    """What the metrics of a budget compare, from the files of the stages.

    Args:
        budget: which one.
        replicates: their indices, from 0: all but those that are left out.
        seed, imbalance: of the study: which real images each GAN was trained on.
        pool: `study.pool` where the GANs learned from the pool too, else "none".
        synthetic: folder of the synthetic images, `<budget>/<index>.npz` each.
        train, validation, test: the splits.
        labels: folder of the pseudo-labels, `<budget>.npz` each; read where there is a pool.

    Raises:
        SynthGainError: if a file is missing or damaged, or the files do not belong together.
    """
    real = LabeledImages.load(train)
    pools = []
    if pool != "none":
        for subset in real_subsets(
            real, budget=budget, replicates=replicates, seed=seed, imbalance=imbalance
        ):
            positions, given = labelled_pool(
                real,
                subset,
                size=pool,
                seed=seed,
                pseudo_labels=labels / f"{budget}.npz",
            )
            pools.append(positions[given.kept])
    return BudgetImages(
        budget=budget,
        replicates=replicates,
        synthetic=[LabeledImages.load(synthetic / f"{budget}/{index}.npz") for index in replicates],
        train=real,
        subsets=[
            subset_indices(real, budget=budget, replicate=index, seed=seed, imbalance=imbalance)
            for index in replicates
        ],
        validation=LabeledImages.load(validation),
        test=LabeledImages.load(test),
        pools=pools,
    )


def class_counts(*, shares: Counts, offered: Counts, images: int) -> Counts:
    """(C,) how many images of each class every row has: proportional to `shares`, `images` in all if offered.

    Shares are rounded by largest remainder. Where a class offers less than its share, all classes shrink
    with it.

    Raises:
        SynthGainError: if a class has no image in one of the sets.
    """
    if offered.min() < 1:
        raise SynthGainError(f"class {int(offered.argmin())} has no image in one of the sets to be compared")
    total = int(shares.sum())
    n = min(images, int((offered * total // shares).min()))
    quota = shares * n / total
    counts = np.floor(quota).astype(np.int64)
    counts[np.argsort(counts - quota, kind="stable")[: n - counts.sum()]] += 1
    lowered: Counts = np.minimum(counts, offered)  # rounding up may ask for one too many
    return lowered
