"""What a study cannot do with the images at hand: said by `prepare`, all at once, before hours of training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.budget import INCEPTION_FEATURES, class_counts
from pipeline.images import LabeledImages, formats_for
from pipeline.params import Evaluation, Study
from pipeline.study.metric import Metric
from pipeline.study.pool import problem_of_size
from pipeline.study.subsets import Budget, images_wanted, missing_counts, real_subset, scaled_counts

Counts = npt.NDArray[np.int64]

_FEWEST_TO_EVALUATE = 2  # of each class: the per-class FID has a covariance
_UNEQUAL = 1.5  # the largest class has so many times the images of the smallest
_CLASSES_SHOWN = 12
_SPARE_FOR_A_FILTER = 0.3  # share of the generated images; less room than that is said


def refuse_impossible_study(
    *,
    train: LabeledImages,
    validation: LabeledImages,
    test: LabeledImages,
    study: Study,
    evaluation: Evaluation,
    images_per_class: int,
    feature_dim: int,
    formats: Sequence[str],
) -> list[str]:
    """Refuse a study that would train first and fail afterwards.

    Args:
        train, validation, test: the splits.
        study, evaluation: their sections of the parameters.
        images_per_class: of each generator.
        feature_dim: of the extractor.
        formats: of the export.

    Returns:
        Lines on what the study does without.

    Raises:
        SynthGainError: a line per problem, each with the nearest values that would work.
    """
    subsets, problems = _subsets(train, study)
    problems += _too_small_rest(train, subsets, study)
    problems += _lone_images(train, subsets, study)
    problems += _too_few_synthetic(subsets, study, images_per_class)
    problems += _evaluation_problems(validation, test, evaluation, images_per_class, feature_dim)
    notes = [*_left_out_arms(train, subsets, study), *_little_to_filter(subsets, study, images_per_class)]
    try:
        _, left_out = formats_for(formats, num_classes=train.num_classes, channels=train.channels)
        notes += [f"export.formats: {left_out}"] if left_out else []
    except SynthGainError as error:
        problems.append(f"export.formats: {error}")
    if problems:
        raise SynthGainError("\n".join(problems))
    return notes


def unequal_classes(
    train: LabeledImages, validation: LabeledImages, test: LabeledImages, *, metric: Metric
) -> list[str]:
    """The counts of the classes, largest first, where they are unequal; of many classes, the ends.

    And what that does to the metric by which the study decides.
    """
    counts = train.counts()
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    if counts[largest] < _UNEQUAL * counts[smallest]:
        return []
    ratio = counts[largest] / counts[smallest]
    lines = [
        f"classes are unequal: {train.class_names[largest]} has {ratio:.3g} times the train images of"
        f" {train.class_names[smallest]} (train, validation, test):"
    ]
    order = np.argsort(-counts, kind="stable").tolist()
    shown, rest = order[:_CLASSES_SHOWN], order[_CLASSES_SHOWN:]
    for label in [*shown, *rest[-_CLASSES_SHOWN:]]:
        sizes = (split.counts()[label] for split in (train, validation, test))
        lines.append(f"  {train.class_names[label]}: {', '.join(map(str, sizes))}")
    if len(rest) > _CLASSES_SHOWN:
        lines.insert(1 + _CLASSES_SHOWN, f"  … {len(rest) - _CLASSES_SHOWN} classes between them …")
    tested = test.counts()
    if metric == "accuracy":
        common = int(tested.argmax())
        lines.append(
            f"  always answering {test.class_names[common]} would be right in {tested[common] / len(test):.0%} of the"
            " test images; study.metric balanced_accuracy or macro_f1 counts every class alike"
        )
    else:
        rare = int(tested.argmin())
        lines.append(
            f"  one of the {tested[rare]} test images of {test.class_names[rare]} is worth"
            f" {100 / tested[rare] / test.num_classes:.2g} points of balanced accuracy"
        )
    return lines


def _subsets(train: LabeledImages, study: Study) -> tuple[dict[Budget, LabeledImages], list[str]]:
    """A real subset of each budget, for its counts: those of all replicates. And why some cannot be drawn."""
    subsets: dict[Budget, LabeledImages] = {}
    problems: list[str] = []
    for budget in study.real_images:
        if budget != "all" and not train.num_classes <= budget <= len(train):
            problems.append(
                f"study.real_images: found {budget}; the train split has {len(train)} images of"
                f" {train.num_classes} classes: {train.num_classes} to {len(train)}, or all"
            )
            continue
        try:
            subsets[budget] = real_subset(
                train, budget=budget, replicate=0, seed=0, imbalance=study.imbalance
            )
        except SynthGainError as error:
            if str(error) not in problems:
                problems.append(str(error))
    return subsets, problems


def _too_small_rest(train: LabeledImages, subsets: dict[Budget, LabeledImages], study: Study) -> list[str]:
    """A pool that is larger than what a real subset leaves of the train split: of all budgets, the greatest."""
    if not subsets:
        return []
    most = max(map(len, subsets.values()))
    problem = problem_of_size(study.pool, rest=len(train) - most, real_images=most)
    return [problem] if problem else []


def _lone_images(train: LabeledImages, subsets: dict[Budget, LabeledImages], study: Study) -> list[str]:
    """Arms for rare classes where a class has one image: repeated or weighted, it is all that is known of its class."""
    arms = [arm.name for arm in study.recipes() if arm.rare_only]
    problems = []
    for budget, real in subsets.items() if arms else ():
        for label in np.flatnonzero(real.counts() == 1).tolist():
            offered = int(train.counts()[label])
            more = (
                f"raise it to at least {math.ceil(2 * len(train) / offered)}"
                if offered > 1
                else "bring more images of this class"
            )
            problems.append(
                f"study.real_images: found {budget}, which leaves 1 image of class {train.class_names[label]}; arms for"
                f" rare classes, such as {arms[0]}, need at least 2 of each: {more}, or remove these arms"
            )
    return problems


def _too_few_synthetic(
    subsets: dict[Budget, LabeledImages], study: Study, images_per_class: int
) -> list[str]:
    """Arms that need more synthetic images of a class than there will be: of all budgets, the greatest need."""
    problems = []
    found = f"generation.images_per_class: found {images_per_class}"
    ratio = max(study.synthetic_per_real)
    needed, label, budget = _greatest(
        {budget: scaled_counts(real.counts(), ratio) for budget, real in subsets.items()}
    )
    if needed > images_per_class:
        real = subsets[budget]
        count = int(real.counts()[label])
        within = math.floor(100 * images_per_class / count) / 100
        problems.append(
            f"{found}; class {real.class_names[label]} has {count} images in a real subset (study.real_images"
            f" {budget}), so study.synthetic_per_real {ratio} needs {needed} synthetic ones: set it to at least"
            f" {needed}, or lower the ratio to at most {within:g}"
        )
    if any(arm.rare_only and arm.uses_synthetic for arm in study.recipes()):
        gap, label, budget = _greatest(
            {budget: missing_counts(real, study.fill_to) for budget, real in subsets.items()}
        )
        if gap > images_per_class:
            problems.append(
                f"{found}; class {subsets[budget].class_names[label]} lacks {gap} images in a real subset"
                f" (study.real_images {budget}), which the fill arms add: set it to at least {gap}"
            )
    return problems


def _little_to_filter(subsets: dict[Budget, LabeledImages], study: Study, images_per_class: int) -> list[str]:
    """Filtered arms fail once the label filter has refused too many: said where it may refuse few."""
    needed, label, budget = _greatest(
        {
            budget: scaled_counts(real.counts(), max(study.synthetic_per_real))
            for budget, real in subsets.items()
        }
    )
    spare = 1 - needed / images_per_class
    if not any(arm.filtered for arm in study.recipes()) or not 0 <= spare < _SPARE_FOR_A_FILTER:
        return []
    return [
        f"filtered arms need {needed} of the {images_per_class} synthetic images of class"
        f" {subsets[budget].class_names[label]} ({budget} real images): they fail if the label filter refuses more than"
        f" {spare:.0%}; a larger generation.images_per_class leaves more room"
    ]


def _greatest(needs: dict[Budget, Counts]) -> tuple[int, int, Budget]:
    """The greatest need of one class: how many images, of which label, with which budget."""
    found = [(int(counts.max()), int(counts.argmax()), budget) for budget, counts in needs.items()]
    return max(found, key=lambda need: need[0], default=(0, 0, "all"))


def _left_out_arms(train: LabeledImages, subsets: dict[Budget, LabeledImages], study: Study) -> list[str]:
    """Arms with other real images, where the train split has too few of them; the study goes on without."""
    notes = []
    extra = [arm for arm in study.recipes() if arm.uses_extra]
    ratios = sorted(ratio for ratio in study.synthetic_per_real if ratio > 0)
    for budget, real in subsets.items():
        rest, counts = train.counts() - real.counts(), real.counts()
        for rare_only in (True, False):
            names = ", ".join(arm.name for arm in extra if arm.rare_only == rare_only)
            if not names:
                continue
            wanted = (
                {"": missing_counts(real, study.fill_to)}
                if rare_only
                else {
                    f" at synthetic_per_real {ratio} or more": images_wanted(real, ratio) for ratio in ratios
                }
            )
            for where, each in wanted.items():
                if not (each > rest).any():
                    continue
                label = int((each - rest).argmax())
                most = math.floor(100 * (rest / np.maximum(counts, 1)).min()) / 100
                notes.append(
                    f"{names}: not trained with {budget} real images{where}: class {train.class_names[label]} has"
                    f" {rest[label]} other train images, and {each[label]} are needed"
                    + ("" if rare_only else f" (up to a ratio of {most:g} there are enough)")
                )
                break
    return notes


def _evaluation_problems(
    validation: LabeledImages,
    test: LabeledImages,
    evaluation: Evaluation,
    images_per_class: int,
    feature_dim: int,
) -> list[str]:
    """Generative metrics that cannot be computed.

    They compare the same number of images of each class from test, validation and every generator.
    """
    shares = test.counts()
    offered = np.minimum(np.minimum(shares, validation.counts()), images_per_class)
    counts = class_counts(shares=shares, offered=offered, images=evaluation.images)
    n, fewest, least = int(counts.sum()), int(counts.min()), test.class_names[int(counts.argmin())]
    offer = (
        f"in the shares of the test split's classes, the splits offer {n} images to evaluate (test {len(test)},"
        f" data.validation_images {len(validation)}, evaluation.images {evaluation.images},"
        f" generation.images_per_class {images_per_class})"
    )

    def more(needed: int) -> str:
        return _what_to_raise(needed, validation, test, evaluation.images, images_per_class)

    problems = []
    if evaluation.features == "inception" and n <= INCEPTION_FEATURES:
        problems.append(
            f"evaluation.features: found inception, with {INCEPTION_FEATURES} features; {offer}, and more than that"
            f" are needed: {more(INCEPTION_FEATURES + 1)}, or set it to domain"
        )
    if n <= feature_dim:
        problems.append(
            f"the test split: {offer}; more than the {feature_dim} features of the extractor are needed:"
            f" {more(feature_dim + 1)}, or lower extractor.feature_dim to at most {n - 1}"
        )
    if fewest < _FEWEST_TO_EVALUATE:
        needed = math.ceil(_FEWEST_TO_EVALUATE * int(shares.sum()) / max(1, int(shares.min())))
        problems.append(
            f"class {least}: {offer}, {fewest} of this class; at least {_FEWEST_TO_EVALUATE} of each class are needed:"
            f" {more(needed)}"
        )
    if evaluation.neighbors >= n:
        problems.append(
            f"evaluation.neighbors: found {evaluation.neighbors}; {offer}, so 1..{n - 1} is allowed"
        )
    return problems


def _what_to_raise(
    needed: int, validation: LabeledImages, test: LabeledImages, images: int, images_per_class: int
) -> str:
    """What offers too few images for `needed` to be compared, and to what it is to be raised."""
    shares, total = test.counts(), len(test)
    of_validation = int((validation.counts() * total // shares).min())
    raised = []
    if images < needed:
        raised.append(f"evaluation.images to at least {needed}")
    if (enough := math.ceil(needed * int(shares.max()) / total)) > images_per_class:
        raised.append(f"generation.images_per_class to at least {enough}")
    if of_validation < needed:
        raised.append(
            f"data.validation_images to about {math.ceil(len(validation) * needed / max(1, of_validation))}"
        )
    if total < needed:
        raised.append(f"the test split to {needed} images (bring more, or raise data.folder_test_fraction)")
    return f"raise {', and '.join(raised)}" if raised else "bring more images of this class"
