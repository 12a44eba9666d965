"""Does a generator give its training images back? Nearest neighbours, against held-out real images.

Every measure is relative: real images of a class resemble each other too. So each measure of synthetic images stands
beside that of two anchors: real test images in their place (what an honest image shows), and the
copycat (the training images with a little noise: what memorising shows). Distances are taken in two spaces, the
pixels and the features of the extractor: a shifted copy is far in pixels, a generic digit is near in features.

*Nearness* of an image: its distance to its nearest training image, divided by the distance of that one to its
own nearest training image. Below 1 it lies closer to a training image than training images lie to each other;
dense and sparse classes are on one scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import scipy.stats
import torch
from torch import Tensor

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.anchors import copycat
from pipeline.generative_metrics.budget import BudgetImages, Counts, class_counts
from pipeline.images import Indices, LabeledImages, draw_indices, pixel_sha256
from pipeline.runtime.progress import progress
from pipeline.runtime.seeds import derive_seed
from pipeline.statistics import sampling_error
from pipeline.study.subsets import replicate_number

# Of held-out real images, this share counts as near copies (and as near duplicates) by definition.
REAL_SHARE = 0.01
# A cell of C_T with fewer images on a side has no normal Mann-Whitney statistic.
SMALLEST_CELL = 20
CLOSEST_PAIRS = 12

# Distances held at a time: 16 MiB as float64.
_DISTANCES = 2**21

# (N, C, H, W) uint8 images -> (N, F) float32 features.
FeaturesFromImages = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
Floats = npt.NDArray[np.float64]
Space = Literal["pixel", "feature"]
SPACES: tuple[Space, ...] = get_args(Space)


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
    """The rule by which synthetic images count as not memorised: both margins must hold, in pixels and in features.

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
    """The nearest of the training points (m, D) to each point (n, D); both float32 or float64, m at least 2."""
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
    images: BudgetImages,
    features_from_images: FeaturesFromImages,
    *,
    n: int,
    gate: Gate,
    seed: int,
) -> dict[str, Any]:
    """Every replicate's synthetic images against what its GAN was trained on, beside the anchors.

    The test split is halved, class by class: one half is the held-out reference, the other is the row of real
    test images. n is the same for every row, lowered to what a half and every replicate offer.

    Args:
        images: what is compared.
        features_from_images: the feature extractor.
        n: how many images each row is to have.
        gate: the rule that synthetic images must pass.
        seed: the study's seed.

    Returns:
        JSON values: `n`, `rule`, `real_test` and `copycat` (both by the training images of the first replicate), and
        `replicates` by number, each with `passed` and `reason`, the measures in `pixel` and `feature`,
        `exact_duplicates`, and the `closest_pairs` (positions in the synthetic file and in the train split).

    Raises:
        SynthGainError: if a class has fewer than two test images, or none in another set.
    """
    counts = class_counts(
        shares=images.test.counts(),
        offered=np.min([images.test.counts() // 2, *(part.counts() for part in images.synthetic)], axis=0),
        images=n,
    )
    n = int(counts.sum())

    def rng(*purpose: str | int) -> np.random.Generator:
        return np.random.default_rng(derive_seed(seed, "memorization", *purpose))

    points = partial(_points_from_images, features_from_images=features_from_images)
    held_out, unseen = map(points, _halves(images.test, counts, rng("test")))
    anchors: dict[str, Any] = {}
    results: dict[str, Any] = {}
    with progress(f"memorisation, budget {images.budget}", len(images.synthetic) + 1, "sets") as advance:
        for place, (index, synthetic) in enumerate(zip(images.replicates, images.synthetic, strict=True)):
            known = images.training_images(place)
            reference = _Reference(
                points(known.images), known.labels, images.training_positions(place), held_out
            )
            if place == 0:
                copies = copycat(known, counts=counts, rng=rng("copycat", images.budget))
                anchors["real_test"], _ = _measures(unseen, reference)
                anchors["copycat"], _ = _measures(points(copies.images), reference)
                advance(1)
            chosen = draw_indices(synthetic.labels, counts, rng("synthetic", images.budget, index))
            drawn = synthetic.images[chosen]
            measures, neighbors = _measures(points(drawn), reference)
            passed, reason = judge(measures, real_test=anchors["real_test"], n=n, gate=gate)
            replicate = replicate_number(index)
            results[str(replicate)] = {
                "passed": passed,
                "reason": reason,
                **measures,
                "exact_duplicates": n - len(set(pixel_sha256(drawn))),
                "closest_pairs": [
                    pair
                    for space in SPACES
                    for pair in _closest_pairs(space, neighbors[space], reference, synthetic, chosen)
                ],
            }
            advance(1, f"replicate {replicate}: {'passed' if passed else 'not passed'}")
    return {"n": n, "rule": str(gate), **anchors, "replicates": results}


def judge(
    measures: Mapping[Space, Mapping[str, Any]],
    *,
    real_test: Mapping[Space, Mapping[str, Any]],
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
    return True, f"{worst:.1%} near copies and authenticity as of real images"


def _halves(
    test: LabeledImages, counts: Counts, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Two disjoint sets of test images, (n, C, H, W) each, with `counts` images of each class."""
    drawn = draw_indices(test.labels, 2 * counts, rng)  # class after class
    starts = 2 * (np.cumsum(counts) - counts)
    first = np.concatenate([np.arange(count) + start for count, start in zip(counts, starts, strict=True)])
    return test.images[drawn[first]], test.images[np.delete(drawn, first)]


@dataclass(frozen=True, eq=False)
class _Points:
    """N images as points of a space.

    Attributes:
        values: (N, D) float32 or float64.
        unit: a difference of 1 in grey levels (pixels), or in features.
    """

    values: Tensor
    unit: float

    @cached_property
    def spread(self) -> Floats:
        """(N,) squared distance of each point to the nearest other one."""
        return nearest_of_their_own(self.values)

    def distance(self, squared: float) -> float:
        """Root mean square over the dimensions, in grey levels (0..255) or in features."""
        return self.unit * math.sqrt(squared / self.values.shape[1])


def _points_from_images(
    images: npt.NDArray[np.uint8], *, features_from_images: FeaturesFromImages
) -> dict[Space, _Points]:
    flat = torch.from_numpy(images.reshape(len(images), -1))
    # Up to 1024 pixels, sums of products of 6-bit grey levels are below 2²⁴: float32 has them exactly, in
    # any order and on any number of threads, and is twice as fast.
    exact_in_float32 = flat.shape[1] <= 1024
    pixel = _Points((flat >> 2).float(), unit=4.0) if exact_in_float32 else _Points(flat.double(), unit=1.0)
    return {
        "pixel": pixel,
        "feature": _Points(torch.from_numpy(features_from_images(images)).double(), unit=1.0),
    }


@dataclass(frozen=True, eq=False)
class _Reference:
    """What candidates are compared with.

    Attributes:
        training: m training images in each space.
        labels: (m,) int64, their classes.
        positions: (m,) int64, their positions in the train split.
        held_out: real images that the generator has not seen, in each space.
    """

    training: Mapping[Space, _Points]
    labels: npt.NDArray[np.int64]
    positions: Indices
    held_out: Mapping[Space, _Points]

    @cached_property
    def neighbors(self) -> dict[Space, Neighbors]:
        """The nearest training images of the held-out ones."""
        return {space: self.nearest(points, space) for space, points in self.held_out.items()}

    def nearest(self, points: _Points, space: Space) -> Neighbors:
        """The nearest training images of other points."""
        return nearest_training_images(points.values, self.training[space].values)


def _measures(
    candidate: Mapping[Space, _Points], reference: _Reference
) -> tuple[dict[Space, dict[str, Any]], dict[Space, Neighbors]]:
    """The measures of candidates in each space, and their nearest training images."""
    measures: dict[Space, dict[str, Any]] = {}
    neighbors: dict[Space, Neighbors] = {}
    for space, points in candidate.items():
        found, held_out = reference.nearest(points, space), reference.neighbors[space]
        c_t = data_copying_score(candidate=found, reference=held_out, training_labels=reference.labels)
        duplicates = near_duplicates(candidate=points.spread, reference=reference.held_out[space].spread)
        neighbors[space] = found
        measures[space] = {
            "near_copies": _round(near_copies(candidate=found, reference=held_out)),
            "authenticity": _round(authenticity(found)),
            "c_t": None if c_t is None else _round(c_t),
            "near_duplicates": _round(duplicates),
            "median_distance": _round(points.distance(float(np.median(found.squared)))),
        }
    return measures, neighbors


def _closest_pairs(
    space: Space, found: Neighbors, reference: _Reference, synthetic: LabeledImages, chosen: Indices
) -> list[dict[str, Any]]:
    """The images of the smallest nearness with their nearest training image, a training image once.

    `found` are the neighbours of the `chosen` ones among the synthetic images.
    """
    order = np.argsort(found.nearness, kind="stable")
    _, firsts = np.unique(found.index[order], return_index=True)
    return [
        {
            "space": space,
            "synthetic_index": int(chosen[i]),
            "train_index": int(reference.positions[found.index[i]]),
            "class": synthetic.class_names[synthetic.labels[chosen[i]]],
            "distance": _round(reference.training[space].distance(float(found.squared[i]))),
            "nearness": _round(float(found.nearness[i])),
        }
        for i in order[np.sort(firsts)][:CLOSEST_PAIRS]
    ]


def _nearest(points: Tensor, others: Tensor, *, skip: Indices | None = None) -> tuple[Floats, Indices]:
    """Squared distance and position of the nearest of `others`, in blocks; `skip[i]` does not count for point i."""
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
