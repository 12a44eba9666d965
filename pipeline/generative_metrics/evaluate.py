"""Each set of synthetic images against real test images, beside two anchors: the floor and the copycat.

Every row of the table compares n images with the same n real test images, class by class in the same
numbers, so that a row differs from another by its images alone: these metrics depend on n and on the shares
of the classes. The floor is what real images reach: n of the validation split in the synthetic images' place,
on which neither the extractor nor a GAN was trained.
The copycat is what memorising reaches: the GAN's own training images, repeated up to n, each with a little
noise.

`evaluate_synthetic` is the whole evaluation of a budget; `evaluate_images` is one row of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.anchors import copycat
from pipeline.generative_metrics.budget import BudgetImages, Counts, class_counts
from pipeline.generative_metrics.features import (
    Extractor,
    FeaturesAndProbabilities,
    FeatureStatistics,
    statistics_from_features,
)
from pipeline.generative_metrics.fid import Fid, fid, fid_floor
from pipeline.generative_metrics.inception import FEATURE_DIM, InceptionFeatures
from pipeline.generative_metrics.inception_score import inception_score
from pipeline.generative_metrics.kid import kernel_distance
from pipeline.generative_metrics.memorization import Gate, evaluate_memorization
from pipeline.generative_metrics.precision_recall import manifold_metrics
from pipeline.images import LabeledImages, draw_indices
from pipeline.runtime.progress import progress
from pipeline.runtime.seeds import derive_seed
from pipeline.study.subsets import replicate_number

# The original FID network and its identity, as `load_inception` gives them.
Inception = tuple[InceptionFeatures, Extractor]


@dataclass(frozen=True, eq=False)
class DescribedByInception:
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
    inception: DescribedByInception | None = None

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
    beside = DescribedByInception(inception[0](images.images), inception[1]) if inception else None
    return DescribedImages(features, probabilities, images.labels, extractor, beside)


@dataclass(frozen=True, eq=False)
class FeatureNetworks:
    """The networks that describe images.

    Attributes:
        domain: the feature extractor of the data set.
        extractor: its identity.
        inception: the original FID network, for columns of its own beside the domain's; or None.
    """

    domain: FeaturesAndProbabilities
    extractor: Extractor
    inception: Inception | None = None

    def describe(self, images: LabeledImages) -> DescribedImages:
        """What all networks say of labelled images."""
        return describe_images(images, self.domain, extractor=self.extractor, inception=self.inception)

    def describe_labels(self, images: LabeledImages) -> DescribedImages:
        """What the domain's network alone says: it is the one that recognises classes."""
        return describe_images(images, self.domain, extractor=self.extractor)


def evaluate_synthetic(
    images: BudgetImages, networks: FeatureNetworks, *, n: int, neighbors: int, gate: Gate, seed: int
) -> dict[str, Any]:
    """How good the synthetic images of a budget are, and whether they are copies of their training images.

    Args:
        images: what is compared.
        networks: what describes them.
        n: how many images each row is to have.
        neighbors: k of the manifold metrics.
        gate: the rule that says whether synthetic images are memorised.
        seed: the study's seed.

    Returns:
        The JSON values of `data/metrics/synthetic/<budget>.json`: those of `evaluate_budget`, and under
        `memorization` those of `evaluate_memorization`, whose results stand with their replicates. Under `generator`,
        the origin of images that are not of our GAN.

    Raises:
        SynthGainError: as `evaluate_budget` and `evaluate_memorization`.
    """
    table = evaluate_budget(images, networks, n=n, neighbors=neighbors, seed=seed)
    memorization = evaluate_memorization(
        images, lambda pixels: networks.domain(pixels)[0], n=n, gate=gate, seed=seed
    )
    for replicate, found in memorization.pop("replicates").items():
        table["replicates"][replicate]["memorization"] = found
    origin = images.synthetic[0].provenance.get("generator")
    return {**table, "memorization": memorization, **({"generator": origin} if origin else {})}


def warnings_about(table: Mapping[str, Any], *, n: int) -> list[str]:
    """What a person has to know of the table of `evaluate_synthetic`, where `n` images a row were asked for."""
    warnings = []
    if table["n"] < n:
        warnings.append(
            f"n lowered from evaluation.images {n} to {table['n']}:"
            " the splits and the synthetic images offer no more in the test split's class shares"
        )
    for replicate, row in table["replicates"].items():
        if not row["memorization"]["passed"]:
            advice = (
                "change your generator, so that it gives more than its real images back"
                if "generator" in table
                else "raise gan.real_augmentation (or gan.real_augmentation_up_to, where it is not in force), so that"
                " the GAN learns more than its real images"
            )
            warnings.append(
                f"replicate {replicate} does not pass the memorisation gate: {row['memorization']['reason']}; {advice}"
            )
    return warnings


def evaluate_budget(
    images: BudgetImages, networks: FeatureNetworks, *, n: int, neighbors: int, seed: int
) -> dict[str, Any]:
    """The table of one budget: a row per replicate (from 1), the floor and the copycat, all with the same n.

    n is lowered to what the test split, the validation split and every replicate offer in the test split's class
    shares. The floor is of the validation split: images that trained the extractor lie closer together in its features.

    Args:
        images: what is compared.
        networks: what describes them.
        n: how many images each row is to have.
        neighbors: k of the manifold metrics.
        seed: the study's seed; every draw has a seed of its own, derived from it.

    Raises:
        SynthGainError: if a file belongs to another budget, replicate or real subset, classes or sizes
            differ, or there are too few images for an extractor's features.
    """
    images.refuse_mismatch()
    counts = class_counts(
        shares=images.test.counts(),
        offered=np.min(
            [part.counts() for part in (images.test, images.validation, *images.synthetic)], axis=0
        ),
        images=n,
    )
    n = int(counts.sum())
    if networks.inception:
        check_inception_count(n)
    draw = partial(_draw, counts=counts, seed=seed)
    copies = copycat(images.training_images(0), counts=counts, rng=_rng(seed, "copycat", images.budget))
    total = len(images.test) + n * (2 + len(images.synthetic)) + sum(map(len, images.synthetic))
    with progress(f"evaluating budget {images.budget}", total=total, unit="images") as advance:
        whole_test = networks.describe_labels(images.test)
        real = networks.describe(draw(images.test, "test"))
        advance(len(images.test))
        floor = networks.describe(draw(images.validation, "floor", images.budget))
        evaluate = partial(
            evaluate_images,
            real=real,
            other_real=floor,
            class_names=images.test.class_names,
            neighbors=neighbors,
        )
        floor_row = evaluate(synthetic=floor)
        advance(n, f"floor: FID {floor_row['fid']:.3g}")
        copycat_row = evaluate(synthetic=networks.describe(copies))
        advance(n, f"copycat: FID {copycat_row['fid']:.3g}")
        rows = {}
        for index, synthetic in zip(images.replicates, images.synthetic, strict=True):
            replicate = str(replicate_number(index))
            all_synthetic = networks.describe_labels(synthetic)
            advance(len(synthetic))
            drawn = networks.describe(draw(synthetic, "synthetic", images.budget, index))
            rows[replicate] = evaluate(synthetic=drawn, all_synthetic=all_synthetic)
            advance(n, f"replicate {replicate}: FID {rows[replicate]['fid']:.3g}")
    return {
        "budget": images.budget,
        "n": n,
        "n_per_class": dict(zip(images.test.class_names, counts.tolist(), strict=True)),
        "neighbors": neighbors,
        "features": "inception" if networks.inception else "domain",
        "extractor_sha256": networks.extractor.sha256,
        "extractor_test_accuracy": _round(_label_fidelity(whole_test)),
        "floor": floor_row,
        "floor_split": "validation",
        "copycat": copycat_row,
        "replicates": rows,
    }


def _rng(seed: int, *purpose: str | int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, "evaluation", *purpose))


def _draw(source: LabeledImages, *purpose: str | int, counts: Counts, seed: int) -> LabeledImages:
    return source.subset(draw_indices(source.labels, counts, _rng(seed, *purpose)))


def evaluate_images(
    *,
    real: DescribedImages,
    synthetic: DescribedImages,
    other_real: DescribedImages,
    class_names: Sequence[str],
    neighbors: int,
    all_synthetic: DescribedImages | None = None,
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
        all_synthetic: all images of the set of which `synthetic` is a draw: label fidelity needs no equal n, and the
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
    judged = all_synthetic or synthetic
    fid_per_class = {
        name: _fid_of_class(name, *(part.of_class(label) for part in (real, synthetic, other_real)))
        for label, name in enumerate(class_names)
    }
    label_fidelity_per_class = {
        name: _label_fidelity(judged.of_class(label)) for label, name in enumerate(class_names)
    }
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


def _fid_of_class(
    name: str, real: DescribedImages, synthetic: DescribedImages, other_real: DescribedImages
) -> float:
    """The Fréchet distance of synthetic images from real ones; all three sets are of one class."""
    if min(len(real.features), len(synthetic.features)) < 2:
        raise SynthGainError(
            f"class {name}: {len(real.features)} real and {len(synthetic.features)} synthetic"
            " images to evaluate; at least 2 of each are needed;"
            " raise evaluation.images or the smallest class"
        )
    floor = fid_floor(real=real.statistics(), other_real=other_real.statistics())
    return fid(synthetic=synthetic.statistics(), floor=floor).value


def _inception_scores(
    real: DescribedByInception | None,
    synthetic: DescribedByInception | None,
    other_real: DescribedByInception | None,
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


def _label_fidelity(images: DescribedImages) -> float:
    """The share of images in which the extractor sees the label."""
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
