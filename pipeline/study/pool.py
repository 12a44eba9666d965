"""The pool: real images of the train split outside of a replicate's real subset, which are used without their labels.

What trains gets them as bare pixels, in random order: no label, no class and no place in the split can leak. Only the
upper bound asks for their true labels, and the evaluation, which counts how many pseudo-labels are right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.images import Indices, LabeledImages, concatenate, index_sha256
from pipeline.npz import open_npz, write_npz
from pipeline.runtime.seeds import derive_seed
from pipeline.study.subsets import replicate_number, subset_indices

PoolSize = int | Literal["none", "rest"]
Pixels = npt.NDArray[np.uint8]


def pool_indices(train: LabeledImages, real: LabeledImages, *, size: PoolSize, seed: int) -> Indices:
    """(M,) int64: the positions of a replicate's pool in the train split, in random order; labels have no part in it.

    Args:
        train: the train split.
        real: what `real_subset` drew from it with the same seed; its provenance says which.
        size: `study.pool`. A smaller count is the beginning of a larger one.
        seed: of the study.

    Raises:
        SynthGainError: if the split has fewer other images, or none.
    """
    if size == "none":
        return np.empty(0, dtype=np.int64)
    made = real.provenance
    taken = subset_indices(
        train,
        budget=made["budget"],
        replicate=made["replicate"],
        seed=seed,
        imbalance=made.get("imbalance", {}),
    )
    rest = np.setdiff1d(np.arange(len(train), dtype=np.int64), taken)
    if problem := problem_of_size(size, rest=len(rest), real_images=len(real)):
        raise SynthGainError(problem)
    rng = np.random.default_rng(derive_seed(seed, "pool", made["budget"], made["replicate"]))
    return rng.permutation(rest)[: len(rest) if size == "rest" else size]


def problem_of_size(size: PoolSize, *, rest: int, real_images: int) -> str | None:
    """Why no pool of this size can be drawn beside a real subset, with the nearest that can; None if it can."""
    if size == "none":
        return None
    wanted = 1 if size == "rest" else size
    if wanted <= rest:
        return None
    nearest = f"take {rest}, or rest" if rest else "set it to none, or lower study.real_images"
    return (
        f"study.pool: found {size}; beside {real_images} real images (study.real_images) the train split has {rest}"
        f" others: {nearest}"
    )


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """What a classifier of the real subset takes the images of a replicate's pool for.

    Attributes:
        labels: (M,) int64, its likeliest class of each.
        probabilities: (M,) float32, how likely it finds it.
        pool_sha256: hash of the pool's positions in the train split: the labels belong to these images and no others.
        least_probability: the labels that are at least so probable are kept.
    """

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    pool_sha256: str
    least_probability: float

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """(M,) bool: which labels are sure enough to be used."""
        sure: npt.NDArray[np.bool_] = self.probabilities >= np.float32(self.least_probability)
        return sure

    @property
    def collapse(self) -> str:
        """Why nothing can be learnt from them; empty if something can."""
        classes = np.unique(self.labels[self.kept])
        if not len(classes):
            return (
                f"none of {len(self.labels)} pseudo-labels has a probability of {self.least_probability:.3g} (the"
                f" highest: {self.probabilities.max(initial=0):.3g}); lower pool.pseudo_label_threshold"
            )
        if len(classes) == 1:
            return (
                f"all {int(self.kept.sum())} pseudo-labels that are sure enough are of one class (label {classes[0]});"
                " lower pool.pseudo_label_threshold, or raise study.real_images"
            )
        return ""

    def facts(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """JSON values: how many there are, and how many are kept. Whether they are right, the evaluation says."""
        kept = np.bincount(self.labels[self.kept], minlength=len(class_names))
        return {
            "pool_images": len(self.labels),
            "kept": int(kept.sum()),
            "coverage": round(float(self.kept.mean()), 6),
            "kept_per_class": dict(zip(class_names, kept.tolist(), strict=True)),
            **({"collapse": self.collapse} if self.collapse else {}),
        }


@dataclass(frozen=True, eq=False)
class ReplicatePool:
    """The pool of a replicate, as arms may use it.

    Attributes:
        images: (M, C, H, W) uint8, without labels.
        pseudo_labels: of these images; None: no declared arm needs them.
        true_labels: (M,) int64, for the upper bound alone; None: it is not declared.
    """

    images: Pixels
    pseudo_labels: PseudoLabels | None = None
    true_labels: npt.NDArray[np.int64] | None = None


def labelled_pool(
    train: LabeledImages, real: LabeledImages, *, size: PoolSize, seed: int, pseudo_labels: Path
) -> tuple[Indices, PseudoLabels]:
    """The positions (M,) of the pool beside a real subset in the train split, and what its images are taken for.

    Args:
        train, real, size, seed: as in `pool_indices`.
        pseudo_labels: what `save_pseudo_labels` wrote.

    Raises:
        SynthGainError: as `pool_indices`, or if the file is missing, damaged, or of another pool.
    """
    indices = pool_indices(train, real, size=size, seed=seed)
    return indices, load_pseudo_labels(pseudo_labels, real.provenance["replicate"], indices)


def with_pseudo_labels(
    real: LabeledImages, train: LabeledImages, *, size: PoolSize, seed: int, pseudo_labels: Path
) -> LabeledImages:
    """The real subset and the images of the pool whose pseudo-label is kept: what a generator is trained on.

    The provenance is the subset's, and says how many images of the pool there are.

    Args:
        real, train, size, seed, pseudo_labels: as in `labelled_pool`.

    Raises:
        SynthGainError: as there, or if self-training collapsed: no label, or a single class, is kept.
    """
    indices, given = labelled_pool(train, real, size=size, seed=seed, pseudo_labels=pseudo_labels)
    if given.collapse:
        raise SynthGainError(
            f"study.generators_train_on: found pool, but in replicate {replicate_number(real.provenance['replicate'])}"
            f" self-training collapsed: {given.collapse}, or set it to subset"
        )
    beside = LabeledImages(train.images[indices[given.kept]], given.labels[given.kept], real.class_names)
    return concatenate(
        [real, beside],
        {**real.provenance, "pool_images": len(beside), "pool_sha256": given.pool_sha256},
    )


def save_pseudo_labels(path: Path, found: Mapping[int, PseudoLabels]) -> None:
    """Write those of the replicates of a budget, by index, into one `.npz`; the same content gives the same bytes."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    facts = {}
    for replicate, given in found.items():
        arrays[f"{replicate}.labels"] = given.labels.astype(np.uint16)
        arrays[f"{replicate}.probabilities"] = given.probabilities
        facts[str(replicate)] = {
            "pool_sha256": given.pool_sha256,
            "least_probability": given.least_probability,
        }
    arrays["facts"] = np.array(json.dumps(facts, sort_keys=True), dtype=np.str_)
    write_npz(path, arrays)


def collapse_of_self_training(path: Path) -> str:
    """The first replicate of a budget whose pseudo-labels teach nothing, and why; empty if there is none.

    Raises:
        SynthGainError: if the file is missing or damaged.
    """
    with open_npz(
        path, damaged="no readable pseudo-labels", remedy="; `dvc repro` makes them again"
    ) as arrays:
        for replicate in sorted(map(int, json.loads(str(arrays["facts"])))):
            if reason := _given(arrays, str(replicate)).collapse:
                return f"replicate {replicate_number(replicate)}: {reason}"
    return ""


def labelled_replicates(path: Path) -> list[int]:
    """The indices, from 0, of the replicates that a file of `save_pseudo_labels` holds.

    Raises:
        SynthGainError: if the file is missing or damaged.
    """
    with open_npz(
        path, damaged="no readable pseudo-labels", remedy="; `dvc repro` makes them again"
    ) as arrays:
        return sorted(map(int, json.loads(str(arrays["facts"]))))


def _given(arrays: Mapping[str, npt.NDArray[Any]], replicate: str) -> PseudoLabels:
    facts = json.loads(str(arrays["facts"]))[replicate]
    return PseudoLabels(
        arrays[f"{replicate}.labels"].astype(np.int64),
        arrays[f"{replicate}.probabilities"],
        facts["pool_sha256"],
        facts["least_probability"],
    )


def load_pseudo_labels(path: Path, replicate: int, indices: Indices) -> PseudoLabels:
    """Read those of one replicate (by index, from 0), which must be of this pool (M,) of positions.

    Raises:
        SynthGainError: if the file is missing, damaged, does not hold the replicate, or is of another pool.
    """
    with open_npz(
        path,
        damaged=f"no readable pseudo-labels of replicate {replicate_number(replicate)}",
        remedy="; `dvc repro` makes them again",
    ) as arrays:
        given = _given(arrays, str(replicate))
    if given.pool_sha256 != index_sha256(indices):
        raise SynthGainError(
            f"{path}: the pseudo-labels of replicate {replicate_number(replicate)} are of another pool"
            " than study.pool and seed give; `dvc repro` makes them again"
        )
    return given
