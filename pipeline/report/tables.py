"""The tables of the page: plain rows of texts, and what each cell is sorted by."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.comparison.cells import cell_values, subset_overlap
from pipeline.comparison.texts import detectable_points, p_value, percent_interval, points, points_interval
from pipeline.results import BudgetResults, Results
from pipeline.runtime.progress import counted
from pipeline.statistics import paired_difference
from pipeline.study.arms import ARMS
from pipeline.study.grid import DeclaredArm
from pipeline.study.metric import WORDS, Metric, measured
from pipeline.study.subsets import Budget

HASH_LENGTH = 12  # of 64: enough to compare by eye
NO_VALUE = "–"
_MEAN_RECALL = "recall, mean of rare classes"
# Key, heading and number format of the generative metrics; a column that no row has is left out.
_NO_BREAK = "\N{NO-BREAK SPACE}"
_GENERATIVE = (
    ("fid", "FID", "↓", ".2f"),
    ("kid", "KID", "↓", ".4f"),
    ("precision", "precision", "↑", ".3f"),
    ("recall", "recall", "↑", ".3f"),
    ("density", "density", "↑", ".3f"),
    ("coverage", "coverage", "↑", ".3f"),
    ("inception_score", "Inception Score", "↑", ".2f"),
    ("label_fidelity", "label fidelity (%)", "↑", "percent"),
)
# Of the original FID network: in a table of their own, for FIDs of two extractors never share one.
_INCEPTION = tuple(
    (f"inception_{key}", heading, arrow, form) for key, heading, arrow, form in _GENERATIVE[:6]
)
_SHOWN_PACKAGES = (
    "synthgain",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pandas",
    "dvc",
    "mlflow",
    "matplotlib",
)


@dataclass(frozen=True)
class Cell:
    """One table cell: what it shows, and what it is sorted by (its text unless given)."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of the page; `marked` are the positions of rows that stand out."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    marked: frozenset[int] = frozenset()


def arm_text(arm: DeclaredArm) -> str:
    """An arm and its ratio: `real + synthetic, affine at 0.5`."""
    return arm.recipe.words + (f" at {arm.synthetic_per_real}" if arm.synthetic_per_real else "")


def verdict_basis(results: Results) -> Table:
    """The numbers behind each budget's verdict, all from `comparison.json`: a column per budget."""
    columns, metric = [], WORDS[results.grid.metric]
    for budget_results in results.budgets:
        judged = budget_results.judged
        validation = judged.get("validation") or {}
        columns.append(
            [
                Cell(arm_text(budget_results.recommended)),
                _arm_mean(results, budget_results, budget_results.classic),
                _arm_mean(results, budget_results, budget_results.best_synthetic),
                _points_cell(
                    validation.get("mean_difference"), validation.get("low"), validation.get("high")
                ),
                _points_cell(judged["mean_difference"], judged["low"], judged["high"]),
                _chosen_by_few(judged),
                _detectable_between(judged),
                Cell(_formatted(judged.get("replicates_to_settle"), "count").text),
                _same_choice(judged, len(budget_results.numbers)),
                Cell(f"{100 * judged['subset_overlap']:.1f} %" if "subset_overlap" in judged else NO_VALUE),
            ]
        )
    names = (
        "recommended",
        f"best classic arm: test {metric} (%)",
        f"best with synthetic images: test {metric} (%)",
        "difference of the choices on validation (points)",
        "difference of the choices on test (points)",
        "difference on test if as many validation labels as training labels choose (points)",
        "difference that would be found (points)",
        "replicates that would settle it",
        "the same choice by the replicates before",
        "real images that two replicates share",
    )
    return Table(
        "What the verdict rests on; intervals in brackets.",
        ("of the verdict", *(f"{budget_results.budget} real images" for budget_results in results.budgets)),
        [[Cell(name), *cells] for name, cells in zip(names, zip(*columns, strict=True), strict=True)],
    )


def _chosen_by_few(judged: Mapping[str, Any]) -> Cell:
    """What the choice costs that few labels make; a dash where no more than these chose anyway."""
    few = judged.get("few_labels")
    return _points_cell(few["mean_difference"], few["low"], few["high"]) if few else Cell(NO_VALUE)


def _same_choice(judged: Mapping[str, Any], replicates: int) -> Cell:
    """How often the replicates before one choose what all of them choose; the first one has none before it."""
    by = judged.get("judged_by", [])
    if not by or len(by) == replicates:
        return Cell(NO_VALUE)
    same = sum(all(row[arm] == judged[arm] for arm in ("best_classic", "best_synthetic")) for row in by)
    return Cell(f"{same} of {len(by)}")


def real_image_equivalents(results: Results) -> Table | None:
    """How many extra real images one synthetic image is worth; None where no gain is certain."""
    rows = [
        row
        for row in results.comparison.get("worth_in_real_images", [])
        if row["real_images_per_synthetic"] is not None
    ]
    if not rows:
        return None
    return Table(
        "Extra real images that one synthetic image is worth, where synthetic images help.",
        ("real images", "arm", "per real", "worth", "interval"),
        [
            [
                _budget_cell(row["budget"]),
                Cell(ARMS[row["arm"]].words),
                _ratio_cell(row["synthetic_per_real"]),
                Cell(f"{row['real_images_per_synthetic']:.2f}", row["real_images_per_synthetic"]),
                Cell(_equivalent_interval(row)),
            ]
            for row in rows
        ],
    )


def over_the_best_rival(section: Mapping[str, Any]) -> Table | None:
    """The verdict on rare classes in numbers: the chosen arms' difference in its metric and in the recalls.

    None where no arm with synthetic images was trained.
    """
    rows = []
    for judged in section["budgets"]:
        if judged["best_synthetic"] is None:
            continue
        recalls = {_recall_words(name): found for name, found in judged["recall_of_class"].items()}
        parts = {_rare_metric(section["metrics"][-1]): judged, _MEAN_RECALL: judged["rare_recall"], **recalls}
        rows += [
            [
                _budget_cell(judged["budget"]),
                *(Cell(str(DeclaredArm.of_row(judged[arm]))) for arm in ("best_synthetic", "best_remedy")),
                Cell(name),
                *_difference_cells(part["mean_difference"], part["low"], part["high"]),
            ]
            for name, part in parts.items()
        ]
    if not rows:
        return None
    return Table(
        "The best arm with synthetic images minus the best rival without any, both chosen on validation, in percentage"
        " points on test. Each replicate is judged by the choice of those before it.",
        ("real images", "with synthetic images", "best rival", "metric", "difference", "interval"),
        rows,
    )


def imbalance(section: Mapping[str, Any]) -> Table:
    """The comparisons of a study with rare classes: each arm against its baseline, metric by metric."""
    return Table(
        f"Study with rare classes: candidate minus baseline on test, in percentage points. {_families(section)}",
        (
            "real images",
            "candidate",
            "metric",
            "difference",
            "interval",
            "p (Holm)",
            "detectable",
            "baseline",
            "each replicate",
        ),
        [
            [
                _budget_cell(row["budget"]),
                Cell(ARMS[row["candidate"]].words),
                Cell(_rare_metric(row["metric"])),
                *_difference_cells(row["mean_difference"], row["low"], row["high"]),
                Cell(p_value(row["p_holm"]), _or_infinite(row["p_holm"])),
                _detectable(row["minimum_detectable_effect"]),
                Cell(ARMS[row["baseline"]].words),
                Cell("  ".join(points(value) for value in row["differences"])),
            ]
            for row in section["comparisons"]
        ],
    )


def _families(section: Mapping[str, Any]) -> str:
    """What p (Holm) is corrected over, for the caption of a table that shows all of it."""
    sizes = {family["question"]: family["comparisons"] for family in section["holm_families"]}
    parts = ", ".join(f"{counted(size, 'comparison')} ({question})" for question, size in sizes.items())
    return (
        f"p after Holm is over all arms, ratios and budgets of a question and metric: {parts}."
        if parts
        else ""
    )


def _rare_metric(name: str) -> str:
    if name == "test_rare_recall":
        return _MEAN_RECALL
    if name in (columns := {f"test_{metric}": words for metric, words in WORDS.items()}):
        return columns[name]
    return _recall_words(name.removeprefix("test_recall_"))


def _recall_words(class_name: str) -> str:
    return f"recall of {class_name}"


def arms(results: Results) -> Table:
    """Every arm that was trained or left out; the recommended ones are marked."""
    rows = results.comparison["arms"]
    metric, other = measured(results.grid.metric)[:2]
    recommended = [(budget_results.budget, budget_results.recommended) for budget_results in results.budgets]
    marked = (
        index for index, row in enumerate(rows) if (row["budget"], DeclaredArm.of_row(row)) in recommended
    )
    return Table(
        "Means over replicates in %, with intervals.",
        (
            *_budget_heading(results),
            "arm",
            "per real",
            f"test {WORDS[metric]}",
            "interval",
            f"validation {WORDS[metric]}",
            f"test {WORDS[other]}",
            "interval",
            "images",
            "steps",
            "batch size",
        ),
        [
            [
                *_budget_cells(results, row["budget"]),
                Cell(ARMS[row["arm"]].words),
                _ratio_cell(row["synthetic_per_real"]),
                *_mean_cells(row, f"test_{metric}"),
                _percent(row[f"validation_{metric}"]),
                *_mean_cells(row, f"test_{other}"),
                _count(row["training_images"]),
                _count(row["optimizer_steps"]),
                _count(row["batch_size"]),
            ]
            for row in rows
        ]
        + [
            [
                *_budget_cells(results, row["budget"]),
                Cell(ARMS[row["arm"]].words),
                _ratio_cell(row["synthetic_per_real"]),
                Cell(NO_VALUE, -1.0),
                Cell(f"left out: {row['reason']}"),
                *(Cell(NO_VALUE, -1.0) for _ in range(2)),
                Cell(NO_VALUE),
                *(Cell(NO_VALUE, -1.0) for _ in range(3)),
            ]
            for row in results.comparison["left_out"]
        ],
        frozenset(marked),
    )


def comparisons(results: Results) -> Table:
    """Each arm against its baseline, in one row by the metric that decides and by another one."""
    rows = results.comparison["comparisons"]
    metrics = measured(results.grid.metric)[:2]
    deciding, other = (WORDS[metric] for metric in metrics)
    by_metric = [[row for row in rows if row["metric"] == f"test_{metric}"] for metric in metrics]
    return Table(
        "Candidate minus baseline on test, in percentage points; intervals of the paired difference."
        f" {_families(results.comparison)}",
        (
            *_budget_heading(results),
            "candidate",
            "per real",
            deciding,
            "interval",
            "p (Holm)",
            "detectable",
            "P(better)",
            "baseline",
            other,
            "interval",
            f"{deciding}, each replicate",
        ),
        [
            [
                *_budget_cells(results, row["budget"]),
                Cell(ARMS[row["candidate"]].words),
                _ratio_cell(row["synthetic_per_real"]),
                *_difference_cells(row["mean_difference"], row["low"], row["high"]),
                Cell(p_value(row["p_holm"]), _or_infinite(row["p_holm"])),
                _detectable(row["minimum_detectable_effect"]),
                _improvement(row),
                Cell(ARMS[row["baseline"]].words),
                *_difference_cells(beside["mean_difference"], beside["low"], beside["high"]),
                Cell("  ".join(points(value) for value in row["differences"])),
            ]
            for row, beside in zip(*by_metric, strict=True)
        ],
    )


def low_data(points_of_lines: pd.DataFrame, metric: Metric) -> Table:
    """The points of the low-data curve: a row per budget, a column per line."""
    lines = list(dict.fromkeys(points_of_lines["line"]))
    return Table(
        f"Test {WORDS[metric]} in %, with intervals.",
        ("real images", *lines),
        [
            [
                Cell(str(rows["budget"].iloc[0]), float(str(real_images))),
                *(_accuracy_text(rows[rows["line"] == line]) for line in lines),
            ]
            for real_images, rows in points_of_lines.groupby("real_images", sort=True)
        ],
    )


def f1_values(results: Results, budget: Budget, name: str, arm: DeclaredArm) -> npt.NDArray[np.float64]:
    """(replicates,) test F1 of one class."""
    return cell_values(results.cells, budget, arm, f"test_f1_{name}")


def f1(results: Results, budget: Budget, classic: DeclaredArm, synthetic: DeclaredArm) -> Table:
    """The F1 of each class, and how it changed."""
    rows = []
    for name in results.class_names:
        before, after = (f1_values(results, budget, name, arm) for arm in (classic, synthetic))
        change = paired_difference(
            baseline=before, candidate=after, overlap=subset_overlap(results.cells, budget)
        )
        rows.append(
            [
                Cell(name),
                _percent(before.mean()),
                _percent(after.mean()),
                *_difference_cells(change.mean, change.low, change.high),
            ]
        )
    return Table(
        f"F1 on test in %: classic is {arm_text(classic)}, synthetic is {arm_text(synthetic)}.",
        ("class", "classic", "synthetic", "points", "interval"),
        rows,
    )


def generative(budget_results: BudgetResults) -> Table:
    """Each replicate's synthetic images against real test images, beside floor and copycat."""
    return _generative(budget_results, _GENERATIVE, "Compared with real test images.")


def generative_by_inception(budget_results: BudgetResults) -> Table | None:
    """The same in the features of the original FID network; None where it was not asked."""
    if "inception_fid" not in budget_results.generative["floor"]:
        return None
    return _generative(budget_results, _INCEPTION, "In the features of the original FID network (Inception).")


def generative_per_class(results: Results, budget_results: BudgetResults) -> Table:
    """Label fidelity and FID of each class."""
    replicates = list(budget_results.generative["replicates"].values())

    def mean(metric: str, name: str) -> float:
        return float(np.mean([scores[f"{metric}_per_class"][name] for scores in replicates]))

    floor = budget_results.generative["floor"]["fid_per_class"]
    return Table(
        "Per class, means over replicates.",
        ("class", f"label fidelity (%){_NO_BREAK}↑", f"FID{_NO_BREAK}↓", "floor FID"),
        [
            [
                Cell(name),
                _percent(mean("label_fidelity", name)),
                Cell(f"{mean('fid', name):.2f}", mean("fid", name)),
                Cell(f"{floor[name]:.2f}", floor[name]),
            ]
            for name in results.class_names
        ],
    )


def memorization(budget_results: BudgetResults) -> Table:
    """Near copies, authenticity, C_T and duplicates in pixels and in features, beside real and copied images."""
    anchors = budget_results.generative["memorization"]
    replicates = [
        (
            f"replicate {name}",
            scores["memorization"],
            "passed" if scores["memorization"]["passed"] else "failed",
        )
        for name, scores in budget_results.generative["replicates"].items()
        if "memorization" in scores
    ]
    rows = [
        *replicates,
        ("real test images", anchors["real_test"], NO_VALUE),
        ("copycat", anchors["copycat"], NO_VALUE),
    ]
    return Table(
        "Nearness to the training images.",
        (
            "images",
            "in",
            "near copies (%)",
            "authenticity (%)",
            "C_T",
            "near duplicates (%)",
            "exact duplicates",
            "gate",
        ),
        [
            [
                Cell(name),
                Cell({"pixel": "pixels", "feature": "features"}[space]),
                _percent(found[space]["near_copies"]),
                _percent(found[space]["authenticity"]),
                _formatted(found[space]["c_t"], ".2f"),
                _percent(found[space]["near_duplicates"]),
                _formatted(found.get("exact_duplicates"), "count"),
                Cell(gate),
            ]
            for name, found, gate in rows
            for space in ("pixel", "feature")
        ],
        frozenset(range(2 * len(replicates), 2 * len(rows))),
    )


def training(budget_results: BudgetResults) -> Table:
    """The end of each replicate's GAN training."""
    last = budget_results.history.groupby("replicate").last()
    known = [
        (column, heading, form)
        for column, heading, form in (
            ("images_seen", "images shown", "count"),
            ("d_loss", "D loss", ".3f"),
            ("g_loss", "G loss", ".3f"),
            ("d_accuracy", "D accuracy, pairs (%)", "percent"),
            ("d_accuracy_real", "on real (%)", "percent"),
            ("d_accuracy_fake", "on fake (%)", "percent"),
            ("label_fidelity_1nn", "label fidelity, 1-NN (%)", "percent"),
        )
        if column in last
    ]
    return Table(
        "At the end of training.",
        ("replicate", *(heading for _, heading, _ in known)),
        [
            [
                Cell(str(replicate), float(str(replicate))),
                *(_formatted(float(row[column]), form) for column, _, form in known),
            ]
            for replicate, row in last.iterrows()
        ],
    )


def splits(results: Results) -> Table:
    """The real images, split by split."""
    return Table(
        "The real images.",
        (
            "split",
            "images",
            "smallest class",
            "largest class",
            "distinct images",
            "index hash",
            "pixel hash",
        ),
        [
            [
                Cell(name),
                _count(facts["images"]),
                _count(min(facts["images_per_class"].values())),
                _count(max(facts["images_per_class"].values())),
                _count(facts["distinct_images"]),
                Cell(facts["index_sha256"][:HASH_LENGTH]),
                Cell(facts["pixels_sha256"][:HASH_LENGTH]),
            ]
            for name in ("train", "validation", "test")
            for facts in (results.splits["splits"][name],)
        ],
    )


def classes(results: Results) -> Table:
    """How many images of each class each split has."""
    parts = ("train", "validation", "test")
    return Table(
        "Images of each class.",
        ("class", *parts),
        [
            [
                Cell(name),
                *(_count(results.splits["splits"][part]["images_per_class"].get(name, 0)) for part in parts),
            ]
            for name in results.class_names
        ],
    )


def provenance(results: Results) -> Table:
    """Each replicate's own real subset, generator and synthetic images."""
    return Table(
        "Each replicate's own real subset, generator and synthetic images (hashes: SHA-256, shortened).",
        (*_budget_heading(results), "replicate", "real subset", "generator", "seed", "synthetic images"),
        [
            [
                *_budget_cells(results, budget_results.budget),
                Cell(str(replicate.number), replicate.number),
                Cell(str(replicate.provenance["real_subset_sha256"])[:HASH_LENGTH]),
                Cell(str(replicate.provenance["generator_sha256"])[:HASH_LENGTH]),
                Cell(str(replicate.provenance["seed"])),
                _count(len(replicate.synthetic)),
            ]
            for budget_results in results.budgets
            for replicate in budget_results.replicates
        ],
    )


def environment(results: Results) -> Table:
    """What this page was written with, and the hashes of what it was written from."""
    rows = [
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
        *((name, _version(name)) for name in _SHOWN_PACKAGES),
        *((f"SHA-256 of {name}", sha256) for name, sha256 in results.table_sha256.items()),
        *(
            (
                f"SHA-256 of the extractor, budget {budget_results.budget}",
                str(budget_results.generative["extractor_sha256"]),
            )
            for budget_results in results.budgets
        ),
    ]
    return Table(
        "The environment that wrote this page, and the files it was written from.",
        ("name", "value"),
        [[Cell(name), Cell(value)] for name, value in rows],
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _generative(
    budget_results: BudgetResults, columns: Sequence[tuple[str, str, str, str]], caption: str
) -> Table:
    named = [(f"replicate {i}", row) for i, row in budget_results.generative["replicates"].items()]
    anchors = [
        ("floor", budget_results.generative["floor"]),
        ("copycat", budget_results.generative["copycat"]),
    ]
    known = [column for column in columns if any(column[0] in row for _, row in named)]
    return Table(
        caption,
        ("images", *(f"{heading}{_NO_BREAK}{arrow}" for _, heading, arrow, _ in known)),
        [
            [Cell(name), *(_formatted(row.get(key), form) for key, _, _, form in known)]
            for name, row in named + anchors
        ],
        frozenset((len(named), len(named) + 1)),
    )


def _budget_heading(results: Results) -> list[str]:
    """A column of equal values would push what matters off a phone's screen."""
    return ["real images"] if len(results.budgets) > 1 else []


def _budget_cells(results: Results, budget: Budget) -> list[Cell]:
    return [_budget_cell(budget)] if len(results.budgets) > 1 else []


def _budget_cell(budget: Budget) -> Cell:
    return Cell(str(budget), float("inf") if budget == "all" else float(budget))


def _ratio_cell(ratio: float) -> Cell:
    return Cell(str(ratio), ratio)


def _arm_mean(results: Results, budget_results: BudgetResults, arm: DeclaredArm | None) -> Cell:
    if arm is None:
        return Cell(NO_VALUE)
    row = results.arm_row(budget_results.budget, arm)
    column = f"test_{results.grid.metric}"
    interval = _bracketed(percent_interval(row[f"{column}_low"], row[f"{column}_high"]))
    return Cell(f"{arm_text(arm)}: {100 * row[column]:.2f}{interval}")


def _mean_cells(row: Mapping[str, Any], column: str) -> list[Cell]:
    """A mean over replicates and its interval."""
    return [_percent(row[column]), Cell(percent_interval(row[f"{column}_low"], row[f"{column}_high"]))]


def _points_cell(mean: float | None, low: float | None, high: float | None) -> Cell:
    if mean is None:
        return Cell(NO_VALUE)
    return Cell(f"{points(mean)}{_bracketed(points_interval(low, high))}")


def _bracketed(interval: str) -> str:
    return "" if interval == NO_VALUE else f" [{interval}]"


def _equivalent_interval(row: Mapping[str, Any]) -> str:
    """The ends of a worth; an end beyond the most real images that were tried is not known."""
    low, high = row["low"], row["high"]
    if low is None:
        return NO_VALUE
    if high is None:
        return f"{low:.2f} to more than was tried"
    return f"{low:.2f} to {high:.2f}"


def _accuracy_text(rows: pd.DataFrame) -> Cell:
    if not len(rows):
        return Cell(NO_VALUE, -1.0)
    row = rows.iloc[0]
    interval = "" if np.isnan(row["low"]) else f" [{row['low']:.2f} to {row['high']:.2f}]"
    return Cell(f"{row['mean']:.2f}{interval}", row["mean"])


def _formatted(value: float | None, form: str) -> Cell:
    if value is None or np.isnan(value):
        return Cell(NO_VALUE, float("inf"))
    if form == "percent":
        return _percent(value)
    return _count(round(value)) if form == "count" else Cell(f"{value:{form}}".replace("-", "−"), value)


def _percent(fraction: float) -> Cell:
    return Cell(f"{100 * fraction:.2f}", fraction)


def _difference_cells(mean: float, low: float | None, high: float | None) -> list[Cell]:
    return [Cell(points(mean), mean), Cell(points_interval(low, high), low)]


def _detectable(effect: float | None) -> Cell:
    return Cell(NO_VALUE if effect is None else detectable_points(effect), _or_infinite(effect))


def _detectable_between(judged: Mapping[str, Any]) -> Cell:
    """The effect that the rule would find, and between which ends it lies, as replicates hardly know their spread."""
    effect, low, high = (judged[f"minimum_detectable_effect{end}"] for end in ("", "_low", "_high"))
    if effect is None:
        return Cell(NO_VALUE)
    return Cell(f"{detectable_points(effect)} [{detectable_points(low)} to {detectable_points(high)}]")


def _improvement(row: Mapping[str, Any]) -> Cell:
    """The share of replicates that improved, and its interval where replicates disagree."""
    share, low, high = (row[f"probability_of_improvement{end}"] for end in ("", "_low", "_high"))
    interval = "" if low is None else f" ({low:.2f} to {high:.2f})"
    return Cell(f"{share:.2f}{interval}", share)


def _or_infinite(value: float | None) -> float:
    """What an unknown value is sorted by."""
    return float("inf") if value is None else value


def _count(number: int) -> Cell:
    return Cell(f"{number:,}".replace(",", _NO_BREAK), number)
