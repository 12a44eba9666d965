"""The real images of a replicate: its budget, its own stratified subset, and what the rest of the split offers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.images import Indices, LabeledImages, index_sha256, stratified_indices
from pipeline.runtime.seeds import derive_seed

Budget = int | Literal["all"]
Imbalance = Mapping[str, int | float]  # class name → its share of the common count; empty: none is rare
# How many images arms for rare classes bring a class up to: the mean count of the classes that `study.imbalance` does
# not name, the count of the largest class, or a count.
FillTo = int | Literal["common", "largest"]

# What `study.imbalance` must leave of a class: one image has no variety to learn, and a judge of the label filter
# that does not see it would not know the class.
_FEWEST_OF_A_CLASS = 2


def replicate_number(index: int) -> int:
    """What people read for a replicate: tables, pages and messages count from 1.

    Folders, seeds, provenance and the facts inside artefacts keep the index, which counts from 0.
    """
    return index + 1


def replicate_index(number: int) -> int:
    """The index, from 0, of a replicate whose number a person or a table gave."""
    return number - 1


def replicate_numbers(count: int) -> range:
    """The numbers of so many replicates: 1 to `count`."""
    return range(replicate_number(0), replicate_number(count))


def parse_budget(text: str) -> Budget:
    """The budget that DVC wrote on a command line: a whole number, or all."""
    if text == "all":
        return "all"
    try:
        return int(text)
    except ValueError:
        raise SynthGainError(f"--budget: found {text}; a whole number of images, or all") from None


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


def missing_counts(real: LabeledImages, fill_to: FillTo = "common") -> npt.NDArray[np.int64]:
    """(num_classes,) int64: how many images each class of a real subset lacks.

    To the `common` count, of the classes that `study.imbalance` names; to the `largest` class or a count, of all.
    """
    if fill_to != "common":
        return unequal_gaps(real.counts(), fill_to)
    rare = np.isin(real.class_names, list(real.provenance.get("imbalance", {})))
    counts = real.counts()
    missing: npt.NDArray[np.int64] = np.where(rare, np.rint(counts[~rare].mean()) - counts, 0).astype(
        np.int64
    )
    return np.maximum(missing, 0)


def half_gaps(counts: npt.NDArray[np.int64], missing: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many images bring each class to the geometric mean of its count and what it would be filled to.

    On a scale of logarithms, that is half of the way. Both are (num_classes,) int64.
    """
    halfway: npt.NDArray[np.int64] = np.rint(np.sqrt(counts * (counts + missing))).astype(np.int64)
    return halfway - counts


def unequal_gaps(counts: npt.NDArray[np.int64], fill_to: int | Literal["largest"]) -> npt.NDArray[np.int64]:
    """How many images each class lacks to the largest, or to a count, from its (num_classes,) int64 counts."""
    target = fill_to if isinstance(fill_to, int) else counts.max()
    return np.maximum(target - counts, 0).astype(np.int64)


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


def real_subset_again(
    train: LabeledImages, provenance: Mapping[str, Any], *, seed: int
) -> LabeledImages | None:
    """The real subset that a generator was trained on, drawn again by the provenance of its images.

    Returns:
        None if this train split and seed give another one.
    """
    again = real_subset(
        train,
        budget=provenance.get("budget", "all"),
        replicate=provenance.get("replicate", 0),
        seed=seed,
        imbalance=provenance.get("imbalance", {}),
    )
    wanted = provenance.get("real_subset_sha256")
    return again if again.provenance["real_subset_sha256"] == wanted else None


def real_subsets(
    train: LabeledImages, *, budget: Budget, replicates: Iterable[int], seed: int, imbalance: Imbalance
) -> Iterator[LabeledImages]:
    """`real_subset` of each of these replicates of a budget, which are indices, from 0."""
    for replicate in replicates:
        yield real_subset(train, budget=budget, replicate=replicate, seed=seed, imbalance=imbalance)


def extra_real_images(
    train: LabeledImages,
    real: LabeledImages,
    *,
    images_per_real: float | None,
    seed: int,
    fill_to: FillTo = "common",
) -> LabeledImages | None:
    """Per class, `images_per_real` real images for each one of a subset, from the rest of the train split.

    With `images_per_real` None, as many as each class lacks (`missing_counts`).

    A larger draw of the same replicate holds the smaller one, so that ratios differ in their size alone.

    Args:
        train: the train split.
        real: what `real_subset` drew from it with the same seed; its provenance says which.
        images_per_real: see above.
        seed: of the study.
        fill_to: what a class lacks images to.

    Returns:
        None where the split has too few others of a class: this arm cannot be trained there.
    """
    budget, replicate = real.provenance["budget"], real.provenance["replicate"]
    imbalance = real.provenance.get("imbalance", {})
    taken = subset_indices(train, budget=budget, replicate=replicate, seed=seed, imbalance=imbalance)
    rest = np.setdiff1d(np.arange(len(train), dtype=np.int64), taken)
    wanted = (
        missing_counts(real, fill_to) if images_per_real is None else images_wanted(real, images_per_real)
    )
    if (wanted > train.subset(rest).counts()).any():
        return None
    rng = np.random.default_rng(derive_seed(seed, "extra real", budget, replicate))
    labels = train.labels[rest]
    chosen = [rng.permutation(rest[labels == label])[:count] for label, count in enumerate(wanted.tolist())]
    return train.subset(np.concatenate(chosen))


def images_wanted(real: LabeledImages, per_real: float) -> npt.NDArray[np.int64]:
    """(num_classes,) int64: `per_real` images for each real one, rounded to the nearest whole image per class."""
    return scaled_counts(real.counts(), per_real)


def scaled_counts(counts: npt.NDArray[np.int64], per_real: float) -> npt.NDArray[np.int64]:
    """The same from the counts (num_classes,) of the real images."""
    wanted: npt.NDArray[np.int64] = np.rint(counts * per_real).astype(np.int64)
    return wanted
