"""Does a generator hand back its training images? Nearest neighbours, against held-out real images.

All is relative: real images of a class resemble each other too. So each number of synthetic images stands
beside the same number of two anchors: real test images in their place (what an honest image shows), and the
copycat (the training images with a little noise: what memorising shows). Distances are taken in pixels and in
the features of the extractor: a shifted copy is far in pixels, a generic digit is near in features.

*Nearness* of an image: its distance to its nearest training image, divided by the distance of that one to its
own nearest training image. Below 1 it lies closer to a training image than training images lie to each other;
dense and sparse classes are on one scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats
import torch
from torch import Tensor

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.anchors import copycat
from pipeline.generative_metrics.evaluate import class_counts
from pipeline.images import Indices, LabeledImages, draw_indices, pixel_sha256
from pipeline.runtime.progress import progress
from pipeline.runtime.seeds import derive_seed
from pipeline.statistics import sampling_error

# Of held-out real images, this share counts as near copies (and as near duplicates) by definition.
REAL_SHARE = 0.01
# A cell of C_T with fewer images on a side has no normal Mann-Whitney statistic.
SMALLEST_CELL = 20
CLOSEST_PAIRS = 12

# Distances held at a time: 16 MiB as float64.
_DISTANCES = 2**21

FeaturesOf = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest training image of each of n images.

    Attributes:
        squared: (n,) float64 squared distance to it.
        index: (n,) int64 its position.
        nearness: (n,) float64, in units of its own distance to its nearest other training image.
    """

    squared: Floats
    index: Indices
    nearness: Floats


@dataclass(frozen=True)
class Gate:
    """When synthetic images pass for not memorised: both rules must hold, in pixels and in features.

    Attributes:
        near_copies_margin: how far the share of near copies may lie above that of real test images.
        authenticity_margin: how far authenticity may lie below that of real test images.

    Both beyond two standard errors of the difference: with few images, chance alone makes some.
    """

    near_copies_margin: float
    authenticity_margin: float

    def __str__(self) -> str:
        return (
            f"in pixels and in features, a share of near copies at most {100 * self.near_copies_margin:g} points"
            f" above, and an authenticity at most {100 * self.authenticity_margin:g} points below that of real test"
            " images, beyond two standard errors"
        )


def nearest_training_images(points: Tensor, training: Tensor) -> Neighbors:
    """Of each point (n, D) the nearest of the training points (m, D), both float32 or float64, m at least 2."""
    squared, index = _nearest(points, training)
    # Only the training images that are someone's nearest need a neighbour of their own.
    needed, place = np.unique(index, return_inverse=True)
    own, _ = _nearest(training[torch.from_numpy(needed)], training, skip=needed)
    own = own[place]
    with np.errstate(divide="ignore", invalid="ignore"):
        nearness = np.sqrt(squared / own)
    nearness[squared == 0] = 0.0  # a copy is a copy, also of an image that is twice in the training set
    return Neighbors(squared, index, nearness)


def data_copying_score(
    *, candidate: Neighbors, reference: Neighbors, training_labels: npt.NDArray[np.int64]
) -> float | None:
    """C_T of Meehan et al. 2020 (arXiv:2004.05675): far below 0 for copying, far above 0 for underfitting.

    The z-score of the Mann-Whitney test of whether candidates lie nearer to the training images than held-out
    real images do, averaged over cells with the weights of the held-out images. A cell is where the nearest
    training image is of one class (the paper's cells are those of k-means). z grows with √n: compare values
    of one n only.

    Args:
        candidate: n images that might be copies.
        reference: as many real images that the generator has not seen.
        training_labels: (m,) the classes of the training images.

    Returns:
        None where no cell has `SMALLEST_CELL` images on both sides.
    """
    cells = training_labels[candidate.index], training_labels[reference.index]
    total = weights = 0.0
    for label in np.unique(training_labels):
        near, held_out = candidate.squared[cells[0] == label], reference.squared[cells[1] == label]
        n, m = len(near), len(held_out)
        if min(n, m) < SMALLEST_CELL:
            continue
        u = scipy.stats.mannwhitneyu(near, held_out, method="asymptotic").statistic
        z = (u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
        total += m * z
        weights += m
    return float(total / weights) if weights else None


def authenticity(neighbors: Neighbors) -> float:
    """Share of images with a nearness above 1, after Alaa et al. 2022 (arXiv:2102.08921).

    An image is authentic if its nearest training image has another training image closer by. Unseen real
    images reach no 100 %: compare with theirs.
    """
    return float((neighbors.nearness > 1).mean())


def near_copies(*, candidate: Neighbors, reference: Neighbors) -> float:
    """Share of images nearer than all but `REAL_SHARE` of the held-out real images, by nearness."""
    return float((candidate.nearness < np.quantile(reference.nearness, REAL_SHARE)).mean())


def nearest_of_their_own(points: Tensor) -> Floats:
    """(n,) squared distance of each point (n, D) to the nearest other one of the set."""
    return _nearest(points, points, skip=np.arange(len(points)))[0]


def near_duplicates(*, candidate: Floats, reference: Floats) -> float:
    """Share of images nearer to another of their own than all but `REAL_SHARE` of as many real images are.

    Args:
        candidate: (n,) what `nearest_of_their_own` returned.
        reference: (n,) the same of real images; a larger set is denser, and would look like duplicates.
    """
    return float((candidate < np.quantile(reference, REAL_SHARE)).mean())


def evaluate_memorization(
    *,
    budget: int | str,
    synthetic: Sequence[LabeledImages],
    train: LabeledImages,
    subsets: Sequence[Indices],
    test: LabeledImages,
    features_of: FeaturesOf,
    images: int,
    gate: Gate,
    seed: int,
) -> dict[str, Any]:
    """Every replicate's synthetic images against what its GAN was trained on, beside the anchors.

    The test split is halved, class by class: one half is the held-out reference, the other is the row of real
    test images. n is the same for every row: `images`, lowered to what a half and every replicate offer.

    Args:
        budget: real images the GANs were trained on, or "all".
        synthetic: the images of each replicate, replicate 0 first.
        train: the train split.
        subsets: of each replicate, the positions in the train split that its GAN was trained on.
        test: the test split.
        features_of: the feature extractor.
        images: n asked for.
        gate: the rule that synthetic images must pass.
        seed: the study's seed.

    Returns:
        JSON values: `n`, `rule`, `real_test` and `copycat` (both by replicate 0's training images), and
        `replicates`, each with `passed` and `reason`, the measures in `pixel` and `feature`,
        `exact_duplicates`, and the `closest_pairs` (positions in the synthetic file and in the train split).

    Raises:
        SynthGainError: if a class has fewer than two test images, or none in another set.
    """
    counts = class_counts(
        shares=test.counts(),
        offered=np.min([test.counts() // 2, *(part.counts() for part in synthetic)], axis=0),
        images=images,
    )
    n = int(counts.sum())

    def rng(*purpose: str | int) -> np.random.Generator:
        return np.random.default_rng(derive_seed(seed, "memorization", *purpose))

    halves = draw_indices(test.labels, 2 * counts, rng("test"))
    first = np.concatenate(
        [
            np.arange(count) + 2 * start
            for count, start in zip(counts, np.cumsum(counts) - counts, strict=True)
        ]
    )
    reference = _Points.of(test.images[halves[first]], features_of)
    unseen = _Points.of(np.delete(test.images[halves], first, axis=0), features_of)
    spread = {space: nearest_of_their_own(getattr(reference, space)) for space in ("pixel", "feature")}

    results: dict[str, Any] = {}
    with progress(f"memorisation, budget {budget}", len(synthetic) + 1, "sets") as advance:
        for replicate, (part, subset) in enumerate(zip(synthetic, subsets, strict=True)):
            known = train.subset(subset)
            training = _Points.of(known.images, features_of)
            against = _Against(training, known.labels, reference, spread)
            if replicate == 0:
                copies = copycat(known, counts=counts, rng=rng("copycat", budget))
                anchors = {
                    "real_test": against.measures(unseen)[0],
                    "copycat": against.measures(_Points.of(copies.images, features_of))[0],
                }
                advance(1)
            chosen = draw_indices(part.labels, counts, rng("synthetic", budget, replicate))
            measures, neighbors = against.measures(_Points.of(part.images[chosen], features_of))
            passed, reason = judge(measures, real_test=anchors["real_test"], n=n, gate=gate)
            results[str(replicate)] = {
                "passed": passed,
                "reason": reason,
                **measures,
                "exact_duplicates": n - len(set(pixel_sha256(part.images[chosen]))),
                "closest_pairs": [
                    pair
                    for space, found in neighbors.items()
                    for pair in _closest_pairs(space, found, chosen, subset, part, training)
                ],
            }
            advance(1, f"replicate {replicate}: {'passed' if passed else 'not passed'}")
    return {"n": n, "rule": str(gate), **anchors, "replicates": results}


def judge(
    measures: Mapping[str, Mapping[str, Any]],
    *,
    real_test: Mapping[str, Mapping[str, Any]],
    n: int,
    gate: Gate,
) -> tuple[bool, str]:
    """Whether the measures of `pixel` and `feature`, both of n images, pass the gate, and why or why not."""
    problems = []
    for space, found in measures.items():
        # Of real images it is REAL_SHARE by definition; a lucky test sample must not make the gate stricter.
        real = max(real_test[space]["near_copies"], REAL_SHARE)
        ceiling = real + gate.near_copies_margin + 2 * math.sqrt(2) * sampling_error(real, n)
        if found["near_copies"] > ceiling:
            problems.append(
                f"{found['near_copies']:.1%} near copies in {space} space (allowed up to {ceiling:.1%},"
                f" real test images have {real_test[space]['near_copies']:.1%})"
            )
        real = real_test[space]["authenticity"]
        floor = real - gate.authenticity_margin - 2 * math.sqrt(2) * sampling_error(real, n)
        if found["authenticity"] < floor:
            problems.append(
                f"authenticity {found['authenticity']:.1%} in {space} space (allowed from {floor:.1%},"
                f" real test images have {real:.1%})"
            )
    if problems:
        return False, "; ".join(problems)
    worst = max(found["near_copies"] for found in measures.values())
    return (
        True,
        f"{worst:.1%} near copies and authenticity as of real images",
    )


@dataclass(frozen=True, eq=False)
class _Points:
    """N images as points: (N, D) pixels, float32 or float64, and (N, F) float64 features.

    `scales` is what a unit of each is in grey levels, or in features.
    """

    pixel: Tensor
    feature: Tensor
    scales: Mapping[str, float]

    @classmethod
    def of(cls, images: npt.NDArray[np.uint8], features_of: FeaturesOf) -> _Points:
        flat = torch.from_numpy(images.reshape(len(images), -1))
        # Up to 1024 pixels, sums of products of 6-bit grey levels are below 2²⁴: float32 has them exactly, in
        # any order and on any number of threads, and is twice as fast.
        exact_in_float32 = flat.shape[1] <= 1024
        pixel = (flat >> 2).float() if exact_in_float32 else flat.double()
        scales = {"pixel": 4.0 if exact_in_float32 else 1.0, "feature": 1.0}
        return cls(pixel, torch.from_numpy(features_of(images)).double(), scales)

    def distance(self, space: str, squared: float) -> float:
        """Root mean square over the dimensions of a space, in grey levels (0..255) or in features."""
        return self.scales[space] * math.sqrt(squared / getattr(self, space).shape[1])


class _Against:
    """What candidates are measured against: the training images, and held-out real ones."""

    def __init__(
        self,
        training: _Points,
        labels: npt.NDArray[np.int64],
        reference: _Points,
        reference_spread: Mapping[str, Floats],
    ) -> None:
        self.training, self.labels, self.reference_spread = training, labels, reference_spread
        self.reference = {
            space: nearest_training_images(getattr(reference, space), getattr(training, space))
            for space in ("pixel", "feature")
        }

    def measures(self, candidate: _Points) -> tuple[dict[str, Any], dict[str, Neighbors]]:
        measures, neighbors = {}, {}
        for space, reference in self.reference.items():
            points = getattr(candidate, space)
            found = nearest_training_images(points, getattr(self.training, space))
            score = data_copying_score(candidate=found, reference=reference, training_labels=self.labels)
            neighbors[space] = found
            measures[space] = {
                "near_copies": _round(near_copies(candidate=found, reference=reference)),
                "authenticity": _round(authenticity(found)),
                "c_t": None if score is None else _round(score),
                "near_duplicates": _round(
                    near_duplicates(
                        candidate=nearest_of_their_own(points), reference=self.reference_spread[space]
                    )
                ),
                "median_distance": _round(candidate.distance(space, float(np.median(found.squared)))),
            }
        return measures, neighbors


def _closest_pairs(
    space: str,
    found: Neighbors,
    chosen: Indices,
    subset: Indices,
    synthetic: LabeledImages,
    training: _Points,
) -> list[dict[str, Any]]:
    """The images of the smallest nearness with their nearest training image, a training image once."""
    order = np.argsort(found.nearness, kind="stable")
    _, firsts = np.unique(found.index[order], return_index=True)
    return [
        {
            "space": space,
            "synthetic_index": int(chosen[i]),
            "train_index": int(subset[found.index[i]]),
            "class": synthetic.class_names[synthetic.labels[chosen[i]]],
            "distance": _round(training.distance(space, float(found.squared[i]))),
            "nearness": _round(float(found.nearness[i])),
        }
        for i in order[np.sort(firsts)][:CLOSEST_PAIRS]
    ]


def _nearest(points: Tensor, others: Tensor, *, skip: Indices | None = None) -> tuple[Floats, Indices]:
    """Squared distance and position of the nearest of `others`, in blocks; `skip[i]` is not it for point i."""
    if len(others) < 1 + (skip is not None):
        raise SynthGainError(f"memorisation: {len(others)} training images; at least 2 are needed")
    squares = others.square().sum(dim=1)
    rows = max(1, _DISTANCES // len(others))
    squared, index = [], []
    for start in range(0, len(points), rows):
        block = points[start : start + rows]
        distances = torch.addmm(block.square().sum(dim=1, keepdim=True) + squares, block, others.T, alpha=-2)
        if skip is not None:
            own = torch.from_numpy(skip[start : start + rows])
            distances[torch.arange(len(block)), own] = torch.inf
        nearest = distances.min(dim=1)
        squared.append(nearest.values.clamp_(min=0).double())  # rounding may fall below
        index.append(nearest.indices)
    return torch.cat(squared).numpy(), torch.cat(index).numpy()


def _round(value: float) -> float:
    return float(f"{value:.6g}")
