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
from pipeline.evaluation.features import statistics_from_features
from pipeline.evaluation.fid import frechet_distance
from pipeline.evaluation.kid import kernel_distance
from pipeline.evaluation.manifold import manifold_metrics
from pipeline.images import Indices, LabeledImages, pixel_sha256
from pipeline.progress import progress
from pipeline.runtime import derive_seed

# Standard deviation of the copycat's noise in grey levels: it hides no stroke, and no two copies are equal.
COPYCAT_NOISE = 4.0

# (N, 1, H, W) uint8 images -> (N, D) float32 features and (N,) int64 predicted classes.
FeaturesAndPredictions = Callable[
    [npt.NDArray[np.uint8]], tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
]


@dataclass(frozen=True, eq=False)
class DescribedImages:
    """What the metrics know of N images.

    Attributes:
        features: (N, D) from the feature extractor.
        predictions: (N,) int64, the classes that the extractor's own classifier sees.
        labels: (N,) int64, the classes the images are said to have: for synthetic images, the requested ones.
    """

    features: npt.NDArray[np.float32]
    predictions: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.features) == len(self.predictions) == len(self.labels):
            raise SynthGainError(
                f"described images: found {len(self.features)} features, {len(self.predictions)} predictions"
                f" and {len(self.labels)} labels; one of each per image"
            )

    def subset(self, indices: Indices | npt.NDArray[np.bool_]) -> DescribedImages:
        """The images at these positions."""
        return DescribedImages(self.features[indices], self.predictions[indices], self.labels[indices])


def describe_images(
    images: LabeledImages, features_and_predictions: FeaturesAndPredictions
) -> DescribedImages:
    """Features and predictions of labelled images."""
    features, predictions = features_and_predictions(images.images)
    return DescribedImages(features, predictions, images.labels)


def evaluate_images(
    *, real: DescribedImages, synthetic: DescribedImages, class_names: Sequence[str], neighbors: int
) -> dict[str, Any]:
    """One row: every metric of synthetic images (or of an anchor in their place) against real ones.

    Per-class distances compare the images of one class. Where a class has no more images than features, its
    covariance is singular and the value is large by n alone: compare it with the floor's, of the same n.

    Returns:
        `fid, kid, precision, recall, density, coverage, label_fidelity` (the share of images in which the
        extractor sees the label), and `fid_per_class`, `label_fidelity_per_class` by class name; floats of
        six significant digits, beyond which rounding may differ between machines.

    Raises:
        SynthGainError: if there are no more images than features, or fewer than two of a class.
    """
    n, size = min(len(real.features), len(synthetic.features)), real.features.shape[1]
    if n <= size:
        raise SynthGainError(
            f"a distance between {n} images in {size} features says nothing (singular covariance):"
            f" more than {size} images are needed; raise evaluation.images, the test split or"
            " generation.images_per_class, or lower extractor.feature_dim"
        )
    fid_per_class = {}
    label_fidelity_per_class = {}
    for label, name in enumerate(class_names):
        real_class = real.subset(real.labels == label)
        synthetic_class = synthetic.subset(synthetic.labels == label)
        if min(len(real_class.features), len(synthetic_class.features)) < 2:
            raise SynthGainError(
                f"class {name}: {len(real_class.features)} real and {len(synthetic_class.features)} synthetic"
                " images to evaluate; at least 2 of each are needed;"
                " raise evaluation.images or the smallest class"
            )
        fid_per_class[name] = _fid(real_class, synthetic_class)
        label_fidelity_per_class[name] = _label_fidelity(synthetic_class)
    scores = {
        "fid": _fid(real, synthetic),
        "kid": kernel_distance(real=real.features, synthetic=synthetic.features),
        **asdict(manifold_metrics(real=real.features, synthetic=synthetic.features, neighbors=neighbors)),
        "label_fidelity": _label_fidelity(synthetic),
    }
    return {
        **_rounded(scores),
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
    features_and_predictions: FeaturesAndPredictions,
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
        features_and_predictions: the feature extractor.
        images: n asked for.
        neighbors: k of the manifold metrics.
        seed: the study's seed; every draw has a seed of its own, derived from it.

    Returns:
        The JSON values of `data/metrics/synthetic/<budget>.json`, except what only the extractor's file
        knows.

    Raises:
        SynthGainError: if a file belongs to another budget, replicate or real subset, or classes or sizes
            differ.
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
    copycat = with_noise(draw(real_subset, "copycat", budget), rng("copycat noise", budget))

    n = int(counts.sum())
    total = len(test) + n * (2 + len(synthetic))
    with progress(f"evaluating budget {budget}", total=total, unit="images") as advance:
        described_test = describe_images(test, features_and_predictions)
        real = described_test.subset(draw_indices(test.labels, counts, rng("test")))
        advance(len(test))

        def row(name: str, candidate: LabeledImages) -> dict[str, Any]:
            described = describe_images(candidate, features_and_predictions)
            values = evaluate_images(
                real=real, synthetic=described, class_names=test.class_names, neighbors=neighbors
            )
            advance(n, f"{name}: FID {values['fid']:.3g}")
            return values

        return {
            "budget": budget,
            "n": n,
            "n_per_class": dict(zip(test.class_names, counts.tolist(), strict=True)),
            "neighbors": neighbors,
            "features": "domain",
            "extractor_test_accuracy": _round(_label_fidelity(described_test)),
            "floor": row("floor", floor),
            "floor_disjoint_from_copycat": disjoint,
            "copycat": row("copycat", copycat),
            "replicates": {
                str(i): row(f"replicate {i}", draw(part, "synthetic", budget, i))
                for i, part in enumerate(synthetic)
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


def draw_indices(
    labels: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], rng: np.random.Generator
) -> Indices:
    """`counts` positions of each class, in random order; round again where a class has fewer."""
    return np.concatenate(
        [
            np.resize(rng.permutation(np.flatnonzero(labels == label)), count)
            for label, count in enumerate(counts)
        ]
    ).astype(np.int64)


def with_noise(images: LabeledImages, rng: np.random.Generator) -> LabeledImages:
    """The copycat: each image with a little noise."""
    noise = rng.normal(scale=COPYCAT_NOISE, size=images.images.shape)
    noisy = np.clip(np.rint(images.images + noise), 0, 255).astype(np.uint8)
    return LabeledImages(noisy, images.labels, images.class_names)


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


def _fid(real: DescribedImages, synthetic: DescribedImages) -> float:
    return frechet_distance(
        real=statistics_from_features(real.features), synthetic=statistics_from_features(synthetic.features)
    )


def _label_fidelity(images: DescribedImages) -> float:
    return float((images.predictions == images.labels).mean())


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: _round(value) for name, value in values.items()}


def _round(value: float) -> float:
    return float(f"{value:.6g}")
