"""Each set of synthetic images against real test images, beside two anchors: the floor and the copycat.

Every row of the table compares n images with the same n real test images, class by class in the same
numbers, so that a row differs from another by its images alone: these metrics depend on n and on the shares
of the classes. The floor is what real images reach: n of the train split in the synthetic images' place.
The copycat is what memorising reaches: the GAN's own training images, repeated up to n, each with a little
noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.anchors import copycat
from pipeline.generative_metrics.features import Extractor, FeatureStatistics, statistics_from_features
from pipeline.generative_metrics.fid import Fid, fid, fid_floor
from pipeline.generative_metrics.inception import FEATURE_DIM, InceptionFeatures
from pipeline.generative_metrics.inception_score import inception_score
from pipeline.generative_metrics.kid import kernel_distance
from pipeline.generative_metrics.precision_recall import manifold_metrics
from pipeline.images import LabeledImages, draw_indices, pixel_sha256
from pipeline.runtime.progress import progress
from pipeline.runtime.seeds import derive_seed

# (N, 1, H, W) uint8 images -> (N, D) float32 features and (N, C) float32 class probabilities.
FeaturesAndProbabilities = Callable[
    [npt.NDArray[np.uint8]], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
]
# The original FID network and its identity, as `load_inception` gives them.
Inception = tuple[InceptionFeatures, Extractor]


@dataclass(frozen=True, eq=False)
class InceptionFeaturesOf:
    """The (N, 2048) features that the original FID network gives N images, and its identity."""

    values: npt.NDArray[np.float32]
    extractor: Extractor

    def statistics(self) -> FeatureStatistics:
        """The moments of the features."""
        return statistics_from_features(self.values, extractor=self.extractor)


@dataclass(frozen=True, eq=False)
class DescribedImages:
    """What the metrics know of N images.

    Attributes:
        features: (N, D) from the feature extractor of the data set.
        probabilities: (N, C), how probable the extractor's own classifier finds each class.
        labels: (N,) int64, the classes the images are said to have: for synthetic images, the requested ones.
        extractor: which network that is.
        inception: the original FID network's features, where they are asked for.
    """

    features: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    extractor: Extractor
    inception: InceptionFeaturesOf | None = None

    def __post_init__(self) -> None:
        if not len(self.features) == len(self.probabilities) == len(self.labels):
            raise SynthGainError(
                f"described images: found {len(self.features)} features, probabilities of"
                f" {len(self.probabilities)} images and {len(self.labels)} labels; one of each per image"
            )

    @property
    def predictions(self) -> npt.NDArray[np.int64]:
        """(N,) int64, the most probable class of each image."""
        predictions: npt.NDArray[np.int64] = self.probabilities.argmax(axis=1).astype(np.int64)
        return predictions

    def statistics(self) -> FeatureStatistics:
        """The moments of the features."""
        return statistics_from_features(self.features, extractor=self.extractor)

    def of_class(self, label: int) -> DescribedImages:
        """The images said to be of a class, without Inception features: no class has more than 2048 images."""
        chosen = self.labels == label
        return DescribedImages(
            self.features[chosen], self.probabilities[chosen], self.labels[chosen], self.extractor
        )


def describe_images(
    images: LabeledImages,
    features_and_probabilities: FeaturesAndProbabilities,
    *,
    extractor: Extractor,
    inception: Inception | None = None,
) -> DescribedImages:
    """Features and class probabilities of labelled images; `extractor` says whose they are."""
    features, probabilities = features_and_probabilities(images.images)
    beside = InceptionFeaturesOf(inception[0](images.images), inception[1]) if inception else None
    return DescribedImages(features, probabilities, images.labels, extractor, beside)


def evaluate_images(
    *,
    real: DescribedImages,
    synthetic: DescribedImages,
    other_real: DescribedImages,
    class_names: Sequence[str],
    neighbors: int,
    every: DescribedImages | None = None,
) -> dict[str, Any]:
    """One row: every metric of synthetic images (or of an anchor in their place) against real ones.

    Label fidelity is what Shmelkov et al. 2018 (arXiv:1807.09499) call GAN-test: the accuracy, on synthetic
    images, of a classifier that was trained on real ones. It is independent of the GAN: the extractor has never
    seen a synthetic image. Their GAN-train is the accuracy of the arm `synthetic_only`.

    Per-class distances compare the images of one class. Where a class has no more images than features, its
    covariance is singular and the value is large by n alone: compare it with the floor's, of the same n.

    Args:
        real: the real images to compare with.
        synthetic: the images to judge.
        other_real: as many other real images, class by class: what FID reaches with them is its floor.
        class_names: the classes.
        neighbors: k of the manifold metrics.
        every: every image of the set of which `synthetic` is a draw: label fidelity needs no equal n, and the
            worst of ten classes is a matter of luck in few images. None: `synthetic` is all there is.

    Returns:
        `fid, kid, precision, recall, density, coverage, inception_score, label_fidelity` (the share of images
        in which the extractor sees the label) and how many that were (`label_fidelity_images`),
        `fid_per_class`, `label_fidelity_per_class` by class name, and
        `fid_scale`: the floor, n and extractor without which `fid` cannot be read. Where the images have
        Inception features, `inception_fid, inception_kid, …, inception_fid_scale` as well: names of their own, so
        that no column mixes two extractors. Floats have six significant digits, beyond which rounding may
        differ between machines.

    Raises:
        SynthGainError: if there are no more images than features, or fewer than two of a class, or the floor
            has another number of images.
    """
    n, size = min(len(real.features), len(synthetic.features)), real.features.shape[1]
    if n <= size:
        raise SynthGainError(
            f"a distance between {n} images in {size} features says nothing (singular covariance):"
            f" more than {size} images are needed; raise evaluation.images, the test split or"
            " generation.images_per_class, or lower extractor.feature_dim"
        )
    fid_per_class = {}
    judged = every or synthetic
    label_fidelity_per_class = {}
    for label, name in enumerate(class_names):
        real_class = real.of_class(label)
        synthetic_class = synthetic.of_class(label)
        if min(len(real_class.features), len(synthetic_class.features)) < 2:
            raise SynthGainError(
                f"class {name}: {len(real_class.features)} real and {len(synthetic_class.features)} synthetic"
                " images to evaluate; at least 2 of each are needed;"
                " raise evaluation.images or the smallest class"
            )
        other_class = other_real.of_class(label)
        floor = fid_floor(real=real_class.statistics(), other_real=other_class.statistics())
        fid_per_class[name] = fid(synthetic=synthetic_class.statistics(), floor=floor).value
        label_fidelity_per_class[name] = _label_fidelity(judged.of_class(label))
    floor = fid_floor(real=real.statistics(), other_real=other_real.statistics())
    distance = fid(synthetic=synthetic.statistics(), floor=floor)
    scores = {
        "fid": distance.value,
        "kid": kernel_distance(real=real.features, synthetic=synthetic.features),
        **asdict(manifold_metrics(real=real.features, synthetic=synthetic.features, neighbors=neighbors)),
        "inception_score": inception_score(synthetic.probabilities),
        "label_fidelity": _label_fidelity(judged),
    }
    return {
        **_rounded(scores),
        "label_fidelity_images": len(judged.labels),
        **_inception_scores(real.inception, synthetic.inception, other_real.inception, neighbors),
        "fid_scale": _scale(distance),
        "fid_per_class": _rounded(fid_per_class),
        "label_fidelity_per_class": _rounded(label_fidelity_per_class),
    }


def evaluate_budget(
    *,
    budget: int | str,
    synthetic: Sequence[LabeledImages],
    real_subset: LabeledImages,
    train: LabeledImages,
    test: LabeledImages,
    features_and_probabilities: FeaturesAndProbabilities,
    extractor: Extractor,
    inception: Inception | None,
    images: int,
    neighbors: int,
    seed: int,
) -> dict[str, Any]:
    """The table of one budget: a row per replicate, the floor and the copycat, all with the same n.

    n is `images`, lowered to what the test split, the train split and every replicate offer in the test
    split's class shares. The floor's images are not among the copycat's, wherever the train split has
    enough others.

    Args:
        budget: real images the GANs were trained on, or "all".
        synthetic: the images of each replicate, replicate 0 first.
        real_subset: what replicate 0's GAN was trained on.
        train: the train split.
        test: the test split.
        features_and_probabilities: the feature extractor of the data set.
        extractor: its identity.
        inception: the original FID network, for columns of its own beside the domain's; or None.
        images: n asked for.
        neighbors: k of the manifold metrics.
        seed: the study's seed; every draw has a seed of its own, derived from it.

    Returns:
        The JSON values of `data/metrics/synthetic/<budget>.json`.

    Raises:
        SynthGainError: if a file belongs to another budget, replicate or real subset, classes or sizes
            differ, or there are too few images for an extractor's features.
    """
    for replicate, replicate_images in enumerate(synthetic):
        _check_same_kind(replicate_images, test, what=f"synthetic images of replicate {replicate}")
        found = replicate_images.provenance.get("budget"), replicate_images.provenance.get("replicate")
        if found != (budget, replicate):
            raise SynthGainError(
                f"synthetic images of budget {budget}, replicate {replicate}:"
                f" the file says budget {found[0]}, replicate {found[1]}; generate them again"
            )
    _check_same_kind(train, test, what="train split")
    _check_subset(synthetic[0], real_subset)

    counts = class_counts(
        shares=test.counts(),
        offered=np.min([part.counts() for part in (test, train, *synthetic)], axis=0),
        images=images,
    )

    def rng(*purpose: str | int) -> np.random.Generator:
        return np.random.default_rng(derive_seed(seed, "evaluation", *purpose))

    def draw(source: LabeledImages, *purpose: str | int) -> LabeledImages:
        return source.subset(draw_indices(source.labels, counts, rng(*purpose)))

    others, disjoint = _others(train, real_subset, counts)
    floor = draw(others, "floor", budget)
    copies = copycat(real_subset, counts=counts, rng=rng("copycat", budget))

    n = int(counts.sum())
    if inception:
        check_inception_count(n)
    total = len(test) + n * (2 + len(synthetic)) + sum(map(len, synthetic))
    with progress(f"evaluating budget {budget}", total=total, unit="images") as advance:

        def describe(candidate: LabeledImages) -> DescribedImages:
            return describe_images(
                candidate, features_and_probabilities, extractor=extractor, inception=inception
            )

        described_test = describe_images(test, features_and_probabilities, extractor=extractor)
        real = describe(draw(test, "test"))
        advance(len(test))
        other_real = describe(floor)

        def row(
            name: str, synthetic_images: DescribedImages, every: DescribedImages | None = None
        ) -> dict[str, Any]:
            values = evaluate_images(
                real=real,
                synthetic=synthetic_images,
                other_real=other_real,
                class_names=test.class_names,
                neighbors=neighbors,
                every=every,
            )
            advance(n, f"{name}: FID {values['fid']:.3g}")
            return values

        def row_of_replicate(replicate: int, part: LabeledImages) -> dict[str, Any]:
            every = describe_images(part, features_and_probabilities, extractor=extractor)
            advance(len(part))
            drawn = describe(draw(part, "synthetic", budget, replicate))
            return row(f"replicate {replicate}", drawn, every)

        return {
            "budget": budget,
            "n": n,
            "n_per_class": dict(zip(test.class_names, counts.tolist(), strict=True)),
            "neighbors": neighbors,
            "features": "inception" if inception else "domain",
            "extractor_sha256": extractor.sha256,
            "extractor_test_accuracy": _round(_label_fidelity(described_test)),
            "floor": row("floor", other_real),
            "floor_disjoint_from_copycat": disjoint,
            "copycat": row("copycat", describe(copies)),
            "replicates": {
                str(replicate): row_of_replicate(replicate, part) for replicate, part in enumerate(synthetic)
            },
        }


def class_counts(
    *, shares: npt.NDArray[np.int64], offered: npt.NDArray[np.int64], images: int
) -> npt.NDArray[np.int64]:
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
    lowered: npt.NDArray[np.int64] = np.minimum(counts, offered)  # rounding up may ask for one too many
    return lowered


def check_inception_count(n: int) -> None:
    """Refuse fewer images than Inception's features, whose covariance would be singular.

    Raises:
        SynthGainError: naming the settings to change.
    """
    if n <= FEATURE_DIM:
        raise SynthGainError(
            f"evaluation.features: found inception, but {n} images to compare say nothing in"
            f" {FEATURE_DIM} features (singular covariance); raise evaluation.images, the test split and"
            " generation.images_per_class, or set it to domain"
        )


def _inception_scores(
    real: InceptionFeaturesOf | None,
    synthetic: InceptionFeaturesOf | None,
    other_real: InceptionFeaturesOf | None,
    neighbors: int,
) -> dict[str, Any]:
    """The metrics of Inception features under names of their own; nothing where there are none."""
    if not (real and synthetic and other_real):
        return {}
    floor = fid_floor(real=real.statistics(), other_real=other_real.statistics())
    distance = fid(synthetic=synthetic.statistics(), floor=floor)
    manifold = manifold_metrics(real=real.values, synthetic=synthetic.values, neighbors=neighbors)
    scores = {
        "fid": distance.value,
        "kid": kernel_distance(real=real.values, synthetic=synthetic.values),
        **asdict(manifold),
    }
    return {
        **{f"inception_{name}": _round(value) for name, value in scores.items()},
        "inception_fid_scale": _scale(distance),
    }


def _others(
    train: LabeledImages, real_subset: LabeledImages, counts: npt.NDArray[np.int64]
) -> tuple[LabeledImages, bool]:
    """The train images outside the subset if they are enough, else all of them; and whether they are."""
    in_subset = np.isin(pixel_sha256(train.images), pixel_sha256(real_subset.images))
    others = train.subset(np.flatnonzero(~in_subset))
    enough = bool((others.counts() >= counts).all())
    return (others, True) if enough else (train, False)


def _check_same_kind(images: LabeledImages, test: LabeledImages, *, what: str) -> None:
    if images.class_names != test.class_names or images.images.shape[1:] != test.images.shape[1:]:
        raise SynthGainError(
            f"{what}: found {images.num_classes} classes, images {images.images.shape[1:]};"
            f" the test split has {test.num_classes} and {test.images.shape[1:]}, or other class names;"
            " run the pipeline again"
        )


def _check_subset(synthetic: LabeledImages, real_subset: LabeledImages) -> None:
    made_from = synthetic.provenance.get("real_subset_sha256")
    found = real_subset.provenance.get("real_subset_sha256")
    if made_from is None or made_from != found:
        raise SynthGainError(
            f"synthetic images of replicate 0: made from the real subset {made_from},"
            f" but params.yaml gives {found}; train the GAN and generate again"
        )


def _label_fidelity(images: DescribedImages) -> float:
    return float((images.predictions == images.labels).mean())


def _scale(distance: Fid) -> dict[str, Any]:
    return {
        "floor": _round(distance.floor),
        "n": distance.n,
        "extractor_sha256": distance.extractor.sha256,
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: _round(value) for name, value in values.items()}


def _round(value: float) -> float:
    return float(f"{value:.6g}")
