"""The rule that gives a verdict: the same for all classes by accuracy, and for rare classes by macro-F1.

Validation has chosen the best arm with synthetic images and the best one without (`cross_fitted_choice`). Synthetic
images are recommended only if the interval of their paired difference on validation lies above 0. Test then says how
large the difference is, and whether it confirms the recommendation; it chooses nothing.

Both differences are of the cross-fitted choice: each replicate is judged by the arms that the others chose, so that the
number of arms and ratios that were tried flatters none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from pipeline.comparison.cross_fitted_choice import Choice, paired_choices
from pipeline.comparison.rows import paired_columns
from pipeline.statistics import CONFIDENCE
from pipeline.study.grid import DeclaredArm
from pipeline.study.subsets import Budget

Code = Literal[
    "gain",
    "gain_not_confirmed",
    "prefer_classic",
    "no_detectable_effect",
    "harm",
    "too_few_replicates",
    "nothing_to_compare",
]
# What a verdict can be: the first that applies. "The chosen arms" are those that validation chose, for each replicate
# on the others: the best with synthetic images, and the best classic one.
CODES: dict[Code, str] = {
    "nothing_to_compare": "no arm with real and synthetic images was trained",
    "too_few_replicates": "one replicate, or replicates that agree by chance: no spread to judge by",
    "gain_not_confirmed": "the interval of the chosen arms' difference lies above 0 on one of validation and test only",
    "gain": "it lies above 0 on both",
    "prefer_classic": "synthetic images help over real only on test, but not over the best classic arm",
    "harm": "on test the interval lies below 0",
    "no_detectable_effect": "on test the interval holds 0: see the minimum detectable effect",
}


@dataclass(frozen=True)
class Judgement:
    """What validation chose, and what the choices of the other replicates give each replicate.

    Attributes:
        baseline: the best arm without synthetic images.
        candidate: the best arm with them.
        on_validation, on_test: the columns of their paired difference.
        over_real: the same of synthetic images against the plain real subset, on test; None: unknown.
        code: the verdict.
        collapsed: `1 of 3 GANs collapsed`; empty if none did.
    """

    baseline: Choice
    candidate: Choice
    on_validation: Mapping[str, Any]
    on_test: Mapping[str, Any]
    over_real: Mapping[str, Any] | None
    code: Code
    collapsed: str = ""

    @property
    def recommends(self) -> bool:
        """Whether validation, which chooses, recommends the candidate."""
        return sign_of(self.on_validation) == "above"


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
    metric: Literal["accuracy", "macro_f1"],
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
    on_validation, on_test = (
        paired_columns(
            paired_choices(cells, budget, candidate.without, baseline.without, f"{split}_{metric}")
        )
        for split in ("validation", "test")
    )
    code = verdict_code(on_validation, on_test, over_real, helped=baseline.arm.name != "real")
    return Judgement(
        baseline, candidate, on_validation, on_test, over_real, weakened(code, collapsed), collapsed
    )


def weakened(code: Code, collapsed: str) -> Code:
    """A verdict where a GAN collapsed: leaving its replicate out flatters synthetic images, and confirms no gain."""
    return "gain_not_confirmed" if collapsed and code == "gain" else code


def judgement_columns(
    judgement: Judgement,
    *,
    replicates: Sequence[int],
    baseline_column: str,
    arm_value: Callable[[DeclaredArm], Any],
) -> dict[str, Any]:
    """A judgement as columns of `comparison.json`.

    Args:
        judgement: what `judge` returned.
        replicates: the numbers of its replicates, in order.
        baseline_column: what `judged_by` calls the arm without synthetic images.
        arm_value: how `judged_by` writes an arm.
    """
    baselines, candidates = judgement.baseline.without, judgement.candidate.without
    return {
        "judged_by": [
            {
                "replicate": replicate,
                baseline_column: arm_value(baseline),
                "best_synthetic": arm_value(candidate),
            }
            for replicate, baseline, candidate in zip(replicates, baselines, candidates, strict=True)
        ],
        "validation": judgement.on_validation,
        **judgement.on_test,
        "over_real": judgement.over_real,
        "code": judgement.code,
    }


def verdict_code(
    on_validation: Mapping[str, Any],
    on_test: Mapping[str, Any],
    over_real: Mapping[str, Any] | None,
    *,
    helped: bool,
) -> Code:
    """Which of the closed set of verdicts the paired columns of two chosen arms give.

    Args:
        on_validation, on_test: of the arm with synthetic images against the best one without.
        over_real: of synthetic images against the plain real subset, on test; None: unknown.
        helped: whether the best arm without synthetic images is more than the plain real subset.
    """
    validation, test = sign_of(on_validation), sign_of(on_test)
    if test == "unknown":
        return "too_few_replicates"
    if (validation == "above") != (test == "above"):
        return "gain_not_confirmed"
    if test == "above":
        return "gain"
    if helped and over_real and sign_of(over_real) == "above":
        return "prefer_classic"
    return "harm" if test == "below" else "no_detectable_effect"


def sign_of(difference: Mapping[str, Any]) -> Literal["above", "below", "around", "unknown"]:
    """Where the interval lies with respect to 0. Its rounded ends decide: the file can be checked."""
    low, high = difference["low"], difference["high"]
    # Without width, replicates agree by chance (few images): their spread cannot be judged.
    if low is None or high is None or low == high:
        return "unknown"
    if low > 0:
        return "above"
    return "below" if high < 0 else "around"


def verdict_sentence(judgement: Judgement, wording: Wording) -> str:
    """What to do, and what it rests on: a sentence for a colleague, without its beginning and its full stop."""
    basis = basis_words(judgement.baseline, judgement.candidate)
    return f"{_finding(judgement, wording)} ({'; '.join(filter(None, [basis, judgement.collapsed]))})"


def _finding(judgement: Judgement, wording: Wording) -> str:
    code, images, change, instead = judgement.code, wording.images, wording.change, wording.instead
    if code == "gain":
        return f"use {wording.images_in_use}: {change}"
    if code == "too_few_replicates":
        lack = (
            "one replicate has no interval"
            if judgement.on_test["low"] is None
            else "equal differences leave no spread to judge by"
        )
        return (
            f"{images} gave {change}, which is no evidence ({lack}): use {instead} until more replicates tell"
        )
    if code == "gain_not_confirmed" and judgement.recommends and sign_of(judgement.on_test) == "above":
        return (
            f"validation, which chooses, recommends {wording.images_in_use}, and test agrees: {change}; but this is"
            f" not confirmed, because {judgement.collapsed} and the study goes on without what failed"
        )
    if code == "gain_not_confirmed" and judgement.recommends:
        return (
            f"validation, which chooses, recommends {wording.images_in_use},"
            f" but test does not confirm it: {change}"
        )
    if code == "gain_not_confirmed":
        return f"{images} gave {change}, but validation, which chooses, shows no gain: use {instead}"
    if code == "prefer_classic":
        return f"{wording.gain_over_real}, but {wording.change_beside_gain}: prefer {instead}"
    if code == "harm":
        return f"{images} do harm: {change}; use {instead}"
    detectable = 100 * judgement.on_test["minimum_detectable_effect"]
    return (
        f"{images} have no detectable effect: {change}, where {detectable:.2f} {wording.unit} would have been found;"
        f" use {instead}"
    )


def basis_words(*choices: Choice) -> str:
    """What a verdict rests on: `5 replicates, 95 % intervals`, and how often one of the choices would be another."""
    replicates = len(choices[0].without)
    count = "one replicate" if replicates == 1 else f"{replicates} replicates"
    whole = tuple(choice.arm for choice in choices)
    changed = sum(arms != whole for arms in zip(*(choice.without for choice in choices), strict=True))
    if not changed:
        return f"{count}, {100 * CONFIDENCE:.0f} % intervals"
    cases = f"leaving one out changes the choice in {changed} of {replicates} cases"
    return f"{count}, {100 * CONFIDENCE:.0f} % intervals; {cases}"
