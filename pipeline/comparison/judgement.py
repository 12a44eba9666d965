"""The rule that gives a verdict: the same for all classes by `study.metric`, and for rare classes.

Validation has chosen the best arm with synthetic images and the best one without (`choice`). Where the intervals of
their paired difference lie on validation and on test gives the verdict: `RULES` is the whole rule. Synthetic images are
recommended where validation's interval lies above 0 and test does not find harm.

Both differences are of arms that no judged replicate helped to choose, so that the number of arms and ratios that were
tried flatters none. Without any effect, validation's interval then lies above 0 in 2.5 studies of 100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.comparison.cells import cell_values, labels_that_choose, subset_overlap
from pipeline.comparison.choice import Choice, judged_differences
from pipeline.comparison.rows import DECIMALS, arm_key, detectable_columns, paired_columns
from pipeline.comparison.texts import detectable_points, points
from pipeline.statistics import CONFIDENCE, PairedTest, detectable_effect_on_both, paired_test
from pipeline.study.grid import DeclaredArm
from pipeline.study.metric import Metric
from pipeline.study.subsets import Budget

Code = Literal[
    "gain",
    "gain_not_confirmed",
    "gain_on_test_alone",
    "prefer_classic",
    "no_detectable_effect",
    "harm",
    "too_few_replicates",
    "nothing_to_compare",
]
_NAMED_OVERLAP = 0.05  # below, it widens an interval of ten replicates by less than a quarter
Sign = Literal["above", "around", "below"]  # where an interval lies with respect to 0
# What a verdict can be. "The chosen arms" are those that validation chose, for each replicate on those before it: the
# best with synthetic images, and the best classic one.
CODES: dict[Code, str] = {
    "nothing_to_compare": "no arm with real and synthetic images was trained",
    "too_few_replicates": "one judged replicate, or replicates that agree by chance: no spread to judge by",
    "gain": "the interval of the chosen arms' difference lies above 0 on validation and on test",
    "gain_not_confirmed": "it lies above 0 on validation, and holds 0 on test",
    "gain_on_test_alone": "it lies above 0 on test, but not on validation, which decides what to use",
    "harm": "on test it lies below 0, whatever validation says",
    "prefer_classic": "synthetic images help over real only on test, but not over the best classic arm",
    "no_detectable_effect": "it lies above 0 on neither, and on test it holds 0: see the minimum detectable effect",
}


@dataclass(frozen=True)
class Rule:
    """What follows from where the two intervals lie.

    Attributes:
        code: the verdict.
        recommends: whether synthetic images are recommended.
        words: what was found and what to do, with the fields of `Wording` and of `verdict_words` in braces.
    """

    code: Code
    recommends: bool
    words: str


_GAIN = Rule("gain", True, "use {images_in_use}: {change}.")
_NOT_CONFIRMED = Rule(
    "gain_not_confirmed",
    True,
    "validation recommends {images_in_use}, but test does not confirm it: {change}.",
)
_ON_TEST_ALONE = Rule(
    "gain_on_test_alone",
    False,
    "{images} gave {change}, but validation shows no gain. Use {instead}.",
)
_HARM = Rule("harm", False, "{images} do harm: {change}. Use {instead}.")
_HARM_ON_TEST_ALONE = Rule(
    "harm",
    False,
    "validation would choose {images_in_use}, but on test they do harm: {change}. Use {instead}.",
)
_NO_EFFECT = Rule(
    "no_detectable_effect",
    False,
    "{images} have no detectable effect: {change}. Use {instead}.",
)
# Where the interval lies on validation, and on test: all nine cases.
RULES: dict[tuple[Sign, Sign], Rule] = {
    ("above", "above"): _GAIN,
    ("above", "around"): _NOT_CONFIRMED,
    ("above", "below"): _HARM_ON_TEST_ALONE,
    ("around", "above"): _ON_TEST_ALONE,
    ("around", "around"): _NO_EFFECT,
    ("around", "below"): _HARM,
    ("below", "above"): _ON_TEST_ALONE,
    ("below", "around"): _NO_EFFECT,
    ("below", "below"): _HARM,
}
# In the place of `_NO_EFFECT`, where not even the largest possible gain would have been found.
_CANNOT_TELL = Rule(
    "no_detectable_effect",
    False,
    "this study is too small to tell whether {images} help: {change}. Until more replicates tell, use {instead}.",
)
# In the place of `_NO_EFFECT`, where synthetic images do what classic augmentation does better.
_PREFER_CLASSIC = Rule(
    "prefer_classic", False, "{gain_over_real}, but {change_beside_gain}. Prefer {instead}."
)
# In the place of `_GAIN`, where a GAN collapsed: leaving its replicate out flatters the images, so no gain is sure.
_COLLAPSED = Rule(
    "gain_not_confirmed",
    True,
    "validation recommends {images_in_use}, and test agrees: {change}. But this is not confirmed:"
    " {collapsed}, and the study goes on without what failed.",
)
# Where one of the intervals is not known.
_TOO_FEW = Rule(
    "too_few_replicates",
    False,
    "{images} gave {change}. That is no evidence: {lack}. Use {instead} until more replicates tell.",
)


@dataclass(frozen=True)
class Judgement:
    """What validation chose, and what the choices of earlier replicates give each replicate.

    Attributes:
        baseline: the best arm without synthetic images.
        candidate: the best arm with them.
        on_validation, on_test: the columns of their paired difference; the minimum detectable effect on test is that of
            the rule, which asks for both splits.
        over_real: the same of synthetic images against the plain real subset, on test; None: unknown.
        overlap: 0..1, the mean share of real images that two replicates have in common.
        rule: what follows.
        collapsed: `1 of 3 GANs collapsed`; empty if none did.
        validation_labels: how many labels chose; None where they are no more than a replicate has for its training.
        largest_gain: what the baseline's mean on test leaves to the top of the scale: no gain can be larger.
    """

    baseline: Choice
    candidate: Choice
    on_validation: Mapping[str, Any]
    on_test: Mapping[str, Any]
    over_real: Mapping[str, Any] | None
    overlap: float
    rule: Rule
    collapsed: str = ""
    validation_labels: int | None = None
    largest_gain: float = 1.0


@dataclass(frozen=True)
class Wording:
    """The parts of a verdict's sentence that follow from what was asked.

    Attributes:
        images: the synthetic images: `0.5 synthetic images per real one`.
        images_in_use: the same as the object of "use": with their augmentation, where `images` is without.
        instead: what to use without a generator: `affine augmentation alone`.
        change: what test found: `+0.30 points of test accuracy over real only [+0.10, +0.50]`.
        gain_over_real: for the code `prefer_classic`: which images gain how much over the plain real subset.
        change_beside_gain: what test found, as the continuation of that.
        unit: of the minimum detectable effect: `points`.
    """

    images: str
    images_in_use: str
    instead: str
    change: str
    gain_over_real: str
    change_beside_gain: str
    unit: str


def judge(
    cells: pd.DataFrame,
    budget: Budget,
    *,
    baseline: Choice,
    candidate: Choice,
    metric: Metric,
    over_real: Mapping[str, Any] | None,
    collapsed: str,
) -> Judgement:
    """Compare two choices on validation and on test, and give the verdict.

    Args:
        cells: a row per cell, with the columns `validation_<metric>` and `test_<metric>`.
        budget: whose cells.
        baseline, candidate: what validation chose without and with synthetic images.
        metric: that decides.
        over_real, collapsed: as in `Judgement`.
    """
    overlap = subset_overlap(cells, budget)
    differences = [
        judged_differences(cells, budget, candidate.before, baseline.before, f"{split}_{metric}")
        for split in ("validation", "test")
    ]
    tests = [_test_of(values, overlap) for values in differences]
    on_validation, on_test = (paired_columns(test) for test in tests)
    if all(test.standard_deviation for test in tests):
        on_test |= detectable_columns(detectable_effect_on_both(*differences, overlap=overlap))
    # Rounded, as the effect is: what decides stands in the file.
    largest_gain = round(
        1 - float(cell_values(cells, budget, baseline.arm, f"test_{metric}").mean()), DECIMALS
    )
    rule = rule_for(
        place_of(on_validation["low"], on_validation["high"]),
        place_of(on_test["low"], on_test["high"]),
        helps_real_only=baseline.arm.name != "real"
        and over_real is not None
        and place_of(over_real["low"], over_real["high"]) == "above",
        collapsed=bool(collapsed),
        out_of_reach=out_of_reach(on_test["minimum_detectable_effect"], largest_gain),
    )
    labels, own = labels_that_choose(cells, budget)
    return Judgement(
        baseline,
        candidate,
        on_validation,
        on_test,
        over_real,
        overlap,
        rule,
        collapsed,
        validation_labels=labels if labels > own else None,
        largest_gain=largest_gain,
    )


def judged_columns(
    cells: pd.DataFrame,
    budget: Budget,
    candidates: Sequence[DeclaredArm | None],
    baselines: Sequence[DeclaredArm | None],
    column: str,
) -> dict[str, Any]:
    """The columns of the paired test of `judged_differences`, whose arguments these are."""
    differences = judged_differences(cells, budget, candidates, baselines, column)
    return paired_columns(_test_of(differences, subset_overlap(cells, budget)))


def _test_of(differences: npt.NDArray[np.float64], overlap: float) -> PairedTest:
    return paired_test(baseline=np.zeros_like(differences), candidate=differences, overlap=overlap)


def judgement_columns(
    judgement: Judgement, *, replicates: Sequence[int], baseline_column: str
) -> dict[str, Any]:
    """A judgement as columns of `comparison.json`.

    Args:
        judgement: what `judge` returned.
        replicates: the numbers of its replicates, in order.
        baseline_column: what `judged_by` calls the arm without synthetic images.
    """
    baselines, candidates = judgement.baseline.before, judgement.candidate.before
    return {
        "judged_by": [
            {
                "replicate": replicate,
                baseline_column: arm_key(baseline),
                "best_synthetic": arm_key(candidate),
            }
            for replicate, baseline, candidate in zip(replicates, baselines, candidates, strict=True)
            if baseline is not None and candidate is not None
        ],
        "subset_overlap": judgement.overlap,
        "validation_labels": judgement.validation_labels,
        "largest_gain": judgement.largest_gain,
        "validation": judgement.on_validation,
        **judgement.on_test,
        "over_real": judgement.over_real,
        "code": judgement.rule.code,
    }


def rule_for(
    validation: Sign | None,
    test: Sign | None,
    *,
    helps_real_only: bool = False,
    collapsed: bool = False,
    out_of_reach: bool = False,
) -> Rule:
    """The rule for where the two intervals lie.

    Args:
        validation, test: of the arm with synthetic images against the best one without; None: no interval.
        helps_real_only: whether synthetic images help over the plain real subset, and the best arm without them is
            more than that.
        collapsed: whether a GAN collapsed, and its replicate is left out.
        out_of_reach: whether the minimum detectable effect is more than could be gained.
    """
    if validation is None or test is None:
        return _TOO_FEW
    rule = RULES[validation, test]
    if rule is _GAIN and collapsed:
        return _COLLAPSED
    if rule is not _NO_EFFECT:
        return rule
    if helps_real_only:
        return _PREFER_CLASSIC
    return _CANNOT_TELL if out_of_reach else rule


def out_of_reach(effect: float | None, largest_gain: float) -> bool:
    """Whether a minimum detectable effect is more than could be gained: then a study of no effect cannot tell."""
    return effect is not None and effect > largest_gain


def place_of(low: float | None, high: float | None) -> Sign | None:
    """Where an interval lies with respect to 0. Its rounded ends decide: the file can be checked."""
    # Without width, replicates agree by chance (few images): their spread cannot be judged.
    if low is None or high is None or low == high:
        return None
    if low > 0:
        return "above"
    return "below" if high < 0 else "around"


def verdict_words(judgement: Judgement, wording: Wording) -> str:
    """What was found and what to do, then what it rests on: sentences, without the first one's start."""
    finding = judgement.rule.words.format(
        **vars(wording), lack=_lack(judgement), collapsed=judgement.collapsed
    )
    return " ".join([finding, *_basis(judgement, wording.unit)])


def detectable_words(difference: Mapping[str, Any], unit: str) -> str:
    """The minimum detectable effect, and how well replicates know it: `about 0.24 points (0.16 to 0.44)`.

    Empty where there is none.
    """
    effect, low, high = (difference[f"minimum_detectable_effect{end}"] for end in ("", "_low", "_high"))
    if effect is None:
        return ""
    return f"about {detectable_points(effect)} {unit} ({detectable_points(low)} to {detectable_points(high)})"


def _lack(judgement: Judgement) -> str:
    if judgement.on_test["low"] is not None:
        return "equal differences leave no spread to judge by"
    if len(judgement.baseline.before) == 1:
        return "one replicate has no interval"
    return "the first replicate only chooses, and one judged replicate has no interval"


def _basis(judgement: Judgement, unit: str) -> list[str]:
    """Sentences on what a verdict rests on: replicates, what would have been found, who chose, what is shared."""
    baseline, candidate = judgement.baseline, judgement.candidate
    pairs = list(zip(baseline.before, candidate.before, strict=True))
    judged = [pair for pair in pairs if None not in pair]
    count = "one replicate" if len(pairs) == 1 else f"{len(pairs)} replicates"
    only_chooses = ", of which the first only chooses" if len(judged) < len(pairs) else ""
    sentences = [f"This is from {count}{only_chooses}, with {100 * CONFIDENCE:.0f} % intervals."]
    detectable = detectable_words(judgement.on_test, unit)
    if judgement.rule is _NO_EFFECT and detectable:
        sentences.append(f"An effect of {detectable} would have been found 8 times in 10.")
    if judgement.rule is _CANNOT_TELL:
        most = f"{points(judgement.largest_gain).lstrip('+')} {unit}"
        sentences.append(
            f"Such a study finds an effect of {detectable} 8 times in 10, and at most {most} can be gained."
        )
    changed = sum(pair != (baseline.arm, candidate.arm) for pair in judged)
    if changed:
        sentences.append(f"In {changed} of {len(judged)} cases the replicates before chose otherwise.")
    if len(pairs) > 1 and len(judged) == len(pairs):
        sentences.append("Nothing was chosen: the study has one arm with synthetic images and one without.")
    elif judgement.validation_labels:
        sentences.append(f"Arm and ratio were chosen with {judgement.validation_labels} validation labels.")
    if judgement.overlap == 1 and len(pairs) > 1:
        sentences.append("All replicates have the same real images: the intervals are about seeds alone.")
    elif judgement.overlap >= _NAMED_OVERLAP:
        share = f"{100 * judgement.overlap:.0f} %"
        sentences.append(f"Two replicates share {share} of their real images; the intervals allow for that.")
    if judgement.collapsed and judgement.rule is not _COLLAPSED:
        sentences.append(f"{judgement.collapsed}.")
    return sentences
