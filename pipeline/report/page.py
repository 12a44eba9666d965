"""One self-contained HTML page, section by section, the verdict first.

The page needs no network: pictures, charts, style and scripts are inside, and its content security policy refuses
everything else. All text goes through autoescaping: class names come from a user's folders.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import yaml

from pipeline.augmentation.policies import POLICIES
from pipeline.comparison.cells import cell_values, subset_overlap
from pipeline.comparison.headline import best_without_pool
from pipeline.comparison.texts import points, points_interval
from pipeline.comparison.verdict import replicate_words
from pipeline.report import advice, charts, pictures, tables
from pipeline.report.drawing import colour_variables
from pipeline.report.pictures import Drawing
from pipeline.report.tables import HASH_LENGTH, arm_text
from pipeline.results import BudgetResults, Results, require_class_columns
from pipeline.runtime.outputs import atomic_output
from pipeline.study.arms import ARMS
from pipeline.study.grid import DeclaredArm
from pipeline.study.metric import WORDS

_TEMPLATES = Path(__file__).resolve().parents[1] / "templates/report"
_PAGE_BYTES = 3_000_000  # of large images; the shipped study has 1.2 MB
_DRAWING_BYTES = 400_000  # all drawings of a budget; measured: 220 kB with ten classes
_CLOSEST_PAIRS = 12  # of each space
# Below this accuracy the feature network misses much of what makes classes differ; above this share of the GAN's FID
# the floor is most of it.
_LEAST_ACCURACY, _MOST_FLOOR = 0.8, 0.5
_SPACES = {"pixel": "pixels", "feature": "features"}
_CONTROL_WORDS = (
    " Controls: more images without a GAN; upper bound: real images that the budget does not have."
)


def write_report(
    results: Results,
    out: Path,
    *,
    settings: Mapping[str, Any],
    grid_images_per_class: int,
    times_judged: int,
) -> None:
    """Write `index.html` and `figures/*.svg` and `*.png`; the same results give the same bytes.

    Args:
        results: what `load_results` returned.
        out: replaced as a whole.
        settings: the parameters, for the appendix.
        grid_images_per_class: columns of the sample grid, for real and for synthetic images each.
        times_judged: how often this test split was judged in this workspace, by its record.
    """
    require_class_columns(results)
    with atomic_output(out) as folder:
        (folder / "figures").mkdir(parents=True)
        content = page_content(results, settings, folder / "figures", grid_images_per_class)
        content["times_judged"] = times_judged
        html = _environment().get_template("page.html").render(content)
        (folder / "index.html").write_text(html, encoding="utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    """The templates of the page, compiled once for all the pages of a process."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_content(results: Results, settings: Mapping[str, Any], folder: Path, columns: int) -> dict[str, Any]:
    """What the template shows; the pictures are written to `folder` on the way."""
    comparison = results.comparison
    # Film strips, grids and galleries share what the drawings leave; base64 adds a third.
    number = len(results.budgets) * (2 + results.grid.replicates)
    room = max(_PAGE_BYTES - _DRAWING_BYTES * len(results.budgets), 1_000_000)
    most_bytes = room * 3 // 4 // number
    # Before the charts, which take seconds: these read the files that may be missing or damaged.
    photographs = [_photographs(results, one, folder, most_bytes) for one in results.budgets]
    first_look = pictures.first_look(results, results.budgets[0])
    return {
        "source": str(settings["data"]["source"]),
        "replicates": replicate_words(comparison),
        "test_images": comparison["test_images"],
        "confidence": round(100 * comparison["confidence"]),
        "verdicts": comparison["budgets"],
        "headlines": [advice.headline(row, results.grid.metric) for row in comparison["budgets"]],
        "answer": _answer(results, folder),
        "first_look": first_look,
        "to_do": advice.what_to_do(results),
        "reading": comparison["reading"],
        "basis": tables.verdict_basis(results),
        "real_image_equivalents": tables.real_image_equivalents(results),
        "has_upper_bound": bool(comparison.get("worth_in_real_images")),
        "imbalance": _imbalance(comparison),
        "curves": [_curve(results, budget_results, folder) for budget_results in results.budgets],
        "low_data": _low_data(results, folder),
        "arms": tables.arms(results),
        "comparisons": tables.comparisons(results),
        "tests": len(comparison["comparisons"]),
        "budgets": [
            _budget(results, budget_results, folder, columns, most_bytes) | images
            for budget_results, images in zip(results.budgets, photographs, strict=True)
        ],
        "splits": tables.splits(results),
        "classes": tables.classes(results),
        "dropped": len(results.splits.get("dropped_from_train_and_validation", [])),
        "left_out": _left_out(results),
        "provenance": tables.provenance(results),
        "environment": tables.environment(results),
        "settings": yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True),
        "some_budget_is_all": "all" in results.grid.budgets,
        "generator": results.budgets[0].generator,
        "leakage": results.grid.gans_of(results.grid.budgets[0]).caveat.strip(),
        "test_error": f"{100 * comparison['test_sampling_error']['standard_error']:.2f}",
        "light": colour_variables(0),
        "dark": colour_variables(1),
    }


def _left_out(results: Results) -> int:
    """Files of an image folder that could not be used; other sources have none."""
    conversion = results.splits.get("published", {}).get("train", {}).get("conversion")
    return len(conversion.get("left_out", [])) if isinstance(conversion, Mapping) else 0


def _budget(
    results: Results, budget_results: BudgetResults, folder: Path, columns: int, most_bytes: int
) -> dict[str, Any]:
    """What the sections show of one budget."""
    confused = _confused_arms(budget_results)
    return {
        "budget": budget_results.budget,
        "f1": _f1(results, budget_results, folder),
        "f1_table": tables.f1(
            results, budget_results.budget, budget_results.classic, budget_results.best_synthetic
        )
        if budget_results.best_synthetic
        else None,
        "confusions": _confusions(results, budget_results, folder, *confused),
        "confusion_words": _confusion_words(budget_results, confused[1]),
        "grid": pictures.sample_pictures(
            results, budget_results, folder, columns=columns, most_bytes=most_bytes
        ),
        "generative": tables.generative(budget_results),
        "by_inception": tables.generative_by_inception(budget_results),
        "per_class": tables.generative_per_class(results, budget_results),
        "facts": budget_results.generative,
        "extractor": str(budget_results.generative["extractor_sha256"])[:HASH_LENGTH],
        "anchors": _anchor_words(budget_results),
        "doubts": _doubts_about_features(budget_results.generative),
        "generator": budget_results.generator,
        "maker": "generator" if budget_results.generator else "GAN",
        **(
            {}
            if budget_results.generator
            else {
                "training": _training(budget_results, folder),
                "training_table": tables.training(budget_results),
            }
        ),
    }


def _photographs(
    results: Results, budget_results: BudgetResults, folder: Path, most_bytes: int
) -> dict[str, Any]:
    """The images that the sections show of one budget: galleries, closest pairs and, of a GAN, its film strips."""
    images = {
        "galleries": pictures.class_galleries(results, budget_results, most_bytes=most_bytes),
        "memorization": _memorization(results, budget_results, folder),
    }
    if not budget_results.generator:
        images["film_strips"] = pictures.film_strips(budget_results, folder, most_bytes=most_bytes)
    return images


def _imbalance(comparison: Mapping[str, Any]) -> dict[str, Any] | None:
    """The study with rare classes: its verdicts and comparisons."""
    section = comparison.get("imbalance")
    if section is None:
        return None
    verdicts = [str(row["verdict"]) for row in section["budgets"]]
    return {
        "verdicts": verdicts,
        "headline": tables.over_the_best_rival(section),
        "table": tables.imbalance(section),
    }


def _answer(results: Results, folder: Path) -> Drawing:
    """The chart that answers the question: per budget the arms without and with synthetic images."""
    groups = {
        f"{budget_results.budget} real images": _answer_rows(results, budget_results)
        for budget_results in results.budgets
    }
    metric = WORDS[results.grid.metric]
    words = "; ".join(
        f"{budget}: " + ", ".join(f"{row.words} {row.mean:.2f} %" for row in rows)
        for budget, rows in groups.items()
    )
    return pictures.drawing(
        folder,
        "answer",
        partial(charts.answer, groups, metric=results.grid.metric),
        f"Test {metric} without and with synthetic images. {words}.",
        f"Test {metric}: mean and interval of each way to train. The verdict judges each replicate by the choice of"
        " others, so its difference need not be that of two bars.",
    )


def _answer_rows(results: Results, budget_results: BudgetResults) -> list[charts.AnswerRow]:
    """Real only, the best arm without synthetic images (and without the pool), and the best with, at each ratio.

    Of several budgets, the best ones only.
    """
    chosen = [budget_results.classic, *filter(None, [budget_results.best_synthetic])]
    of_budget = results.arm_rows(budget_results.budget)
    if ARMS[budget_results.classic.name].pool:
        chosen.append(DeclaredArm(best_without_pool(of_budget, results.grid.metric)["arm"], 0))
    real, several = DeclaredArm("real", 0), len(results.budgets) > 1
    rows, column = [], f"test_{results.grid.metric}"
    for row in of_budget:
        arm = DeclaredArm.of_row(row)
        if arm not in chosen and (several or (arm != real and arm.name not in {one.name for one in chosen})):
            continue
        low, high = row[f"{column}_low"], row[f"{column}_high"]
        line = charts.line_of(arm.name)
        rows.append(
            charts.AnswerRow(
                arm_text(arm),
                line.colour,
                line.marker,
                100 * row[column],
                None if low is None else (100 * low, 100 * high),
                arm == budget_results.recommended,
            )
        )
    return rows


def _curve(results: Results, budget_results: BudgetResults, folder: Path) -> dict[str, Any]:
    """The ratio curve of a budget, and what adding synthetic images changed, ratio by ratio."""
    arms = results.arm_rows(budget_results.budget)
    cells = results.cells[results.cells["budget"] == str(budget_results.budget)]
    metric = results.grid.metric
    words = "; ".join(
        f"{ARMS[row['arm']].words}, {row['synthetic_per_real']} per real: {100 * row[f'test_{metric}']:.2f} %"
        for row in arms
    )
    curve = pictures.drawing(
        folder,
        f"ratio_curve_{budget_results.budget}",
        partial(charts.ratio_curve, cells, arms, metric=metric),
        f"Test {WORDS[metric]} against synthetic images per real image, {budget_results.budget} real images. {words}.",
        f"Mean test {WORDS[metric]} (line), its interval (band, cut off where it would squeeze the rest) and each"
        f" replicate (small dots).{_CONTROL_WORDS if charts.CONTROLS in dict(charts.ratio_panels(arms)) else ''}",
    )
    return {
        "budget": budget_results.budget,
        "curve": curve,
        "differences": _differences(results, budget_results, folder),
    }


def _differences(results: Results, budget_results: BudgetResults, folder: Path) -> Drawing | None:
    metric = results.grid.metric
    rows = [
        row
        for row in results.comparison["comparisons"]
        if row["budget"] == budget_results.budget
        and row["metric"] == f"test_{metric}"
        and DeclaredArm(row["candidate"], row["synthetic_per_real"]) in results.grid.added_arms()
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: tuple(POLICIES).index(row["classic_augmentation"]))
    words = "; ".join(
        f"{charts.line_of(row['candidate']).words}, + {row['synthetic_per_real']}:"
        f" {points(row['mean_difference'])} points"
        f" ({points_interval(row['low'], row['high'])})"
        for row in rows
    )
    return pictures.drawing(
        folder,
        f"differences_{budget_results.budget}",
        partial(charts.differences, rows, numbers=budget_results.numbers, metric=metric),
        f"Paired change of test {WORDS[metric]} by adding synthetic images, {budget_results.budget} real images."
        f" {words}.",
        "What adding synthetic images changed, replicate by replicate (dots), with mean and interval."
        " An interval that crosses 0 shows no detectable change.",
    )


def _low_data(results: Results, folder: Path) -> dict[str, Any] | None:
    """The low-data curve and its table; None with one budget."""
    if len(results.budgets) < 2:
        return None
    means, dots = low_data_points(results)
    table = tables.low_data(means, results.grid.metric)
    words = "; ".join(
        f"{row[0].text} real images: "
        + ", ".join(f"{line} {cell.text}" for line, cell in zip(table.columns[1:], row[1:], strict=True))
        for row in table.rows
    )
    curve = pictures.drawing(
        folder,
        "low_data_curve",
        partial(charts.low_data_curve, means, dots, metric=results.grid.metric),
        f"Test {WORDS[results.grid.metric]} in percent against the number of real images. {words}.",
        "Mean, interval and replicates of the arms without synthetic images, and of the arm with them that"
        " validation chose for each budget (its ratio may differ).",
    )
    return {"curve": curve, "table": table}


def low_data_points(results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The points of the low-data curve, and its dots, one per replicate; percent of `study.metric`.

    Lines: each classic arm, and the best arm with synthetic images of each budget.
    """
    means, dots, column = [], [], f"test_{results.grid.metric}"
    for budget_results in results.budgets:
        real_images = int(results.arm_row(budget_results.budget, DeclaredArm("real", 0))["training_images"])
        lines = [(arm.recipe.words, arm) for arm in results.grid.classic_arms()]
        if budget_results.best_synthetic:
            lines.append(("best with synthetic", budget_results.best_synthetic))
        for name, arm in lines:
            row = results.arm_row(budget_results.budget, arm)
            key = {"line": name, "budget": str(budget_results.budget), "real_images": real_images}
            interval = {end: row[f"{column}_{end}"] for end in ("low", "high")}
            means.append(
                key
                | {"mean": 100 * row[column]}
                | {end: np.nan if value is None else 100 * value for end, value in interval.items()}
            )
            dots += [
                key | {"value": 100 * value}
                for value in cell_values(results.cells, budget_results.budget, arm, column).tolist()
            ]
    table = pd.DataFrame(means)
    order = {name: place for place, name in enumerate(dict.fromkeys(table["line"]))}
    table = table.sort_values(
        ["line", "real_images"], key=lambda column: column.map(order) if column.name == "line" else column
    )
    return table.reset_index(drop=True), pd.DataFrame(dots)


def _confused_arms(budget_results: BudgetResults) -> tuple[DeclaredArm, DeclaredArm]:
    """Real only, and what it is compared with: the recommended arm, or else the best with synthetic images."""
    real = DeclaredArm("real", 0)
    if budget_results.recommended != real:
        return real, budget_results.recommended
    return real, budget_results.best_synthetic or budget_results.classic


def _confusion_words(budget_results: BudgetResults, after: DeclaredArm) -> str:
    if after == budget_results.recommended and after.name != "real":
        return f"Recommended: {arm_text(after)}."
    if after.name == "real":
        return "Real only is recommended, and no other arm was trained to compare it with."
    return f"Real only is recommended; beside it stands {arm_text(after)}, the best with synthetic images."


def _confusions(
    results: Results, budget_results: BudgetResults, folder: Path, before: DeclaredArm, after: DeclaredArm
) -> list[Drawing]:
    """The confusion matrices of two arms, and what changed from one to the other."""
    found = [_confusion(results, budget_results, folder, before, "real_only")]
    if after == before:
        return found
    found.append(
        _confusion(
            results,
            budget_results,
            folder,
            after,
            "recommended" if after == budget_results.recommended else "best_synthetic",
        )
    )
    change = results.confusion_counts(budget_results.budget, after) - results.confusion_counts(
        budget_results.budget, before
    )
    names = results.class_names
    gained = np.diag(change)
    title = "change against real only"
    found.append(
        pictures.drawing(
            folder,
            f"confusion_{budget_results.budget}_difference",
            partial(charts.confusion_difference, change, title),
            f"Change of the confusion matrix from {arm_text(before)} to {arm_text(after)}, {budget_results.budget} real"
            f" images: {int(gained.sum()):+d} right predictions; the class with the largest gain is"
            f" {names[gained.argmax()]} ({int(gained.max()):+d}), that with the smallest is"
            f" {names[gained.argmin()]} ({int(gained.min()):+d}).",
            f"{arm_text(after)} minus {arm_text(before)}, in predictions. Blue is better (more right, fewer"
            " confused), orange is worse.",
            class_names=names,
        )
    )
    return found


def _confusion(
    results: Results, budget_results: BudgetResults, folder: Path, arm: DeclaredArm, name: str
) -> Drawing:
    names = list(results.class_names)
    counts = results.confusion_counts(budget_results.budget, arm)
    wrong = counts - np.diag(np.diag(counts))
    actual, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
    return pictures.drawing(
        folder,
        f"confusion_{budget_results.budget}_{name}",
        partial(charts.confusion_matrix, counts, arm_text(arm)),
        f"Confusion matrix of {arm_text(arm)}, {budget_results.budget} real images: {np.trace(counts)} of"
        f" {counts.sum()} predictions right; the most frequent confusion is {names[actual]} taken for"
        f" {names[predicted]}, {wrong.max()} times.",
        f"{arm_text(arm)}: test predictions, summed over replicates; shade: share of the row.",
        class_names=names,
    )


def _f1(results: Results, budget_results: BudgetResults, folder: Path) -> Drawing | None:
    """What synthetic images changed of each class's F1; None where no arm has any."""
    classic, synthetic, names = budget_results.classic, budget_results.best_synthetic, results.class_names
    if not synthetic:
        return None
    values = np.stack(
        [
            tables.f1_values(results, budget_results.budget, name, synthetic)
            - tables.f1_values(results, budget_results.budget, name, classic)
            for name in names
        ],
        axis=1,
    )
    words = "; ".join(
        f"{name}: {points(mean)}" for name, mean in zip(names, values.mean(axis=0), strict=True)
    )
    return pictures.drawing(
        folder,
        f"f1_{budget_results.budget}",
        partial(
            charts.f1_differences,
            values,
            numbers=budget_results.numbers,
            overlap=subset_overlap(results.cells, budget_results.budget),
        ),
        f"Change of F1 per class in points, {arm_text(synthetic)} against {arm_text(classic)},"
        f" {budget_results.budget} real: {words}.",
        f"Change of each class's F1: {arm_text(synthetic)}, against {arm_text(classic)}. Lines: intervals; dots:"
        " replicates.",
        class_names=names,
    )


def _training(budget_results: BudgetResults, folder: Path) -> Drawing:
    last = budget_results.history.groupby("replicate").last().mean(numeric_only=True)
    return pictures.drawing(
        folder,
        f"gan_{budget_results.budget}",
        partial(charts.gan_curves, budget_results.history),
        f"GAN training with {budget_results.budget} real images. At the end, mean over replicates: discriminator loss"
        f" {last['d_loss']:.2f}, generator loss {last['g_loss']:.2f}, discriminator accuracy"
        f" {last['d_accuracy']:.0%}, label fidelity {last['label_fidelity_1nn']:.0%}.",
        "Thin: replicates; thick: their mean. D accuracy on pairs: the share of pairs in which the discriminator"
        " scores the real image higher; at 50 % (dashed) it cannot tell them apart. Label fidelity here"
        " is a quick look: by the label of the nearest real training image.",
    )


def _memorization(results: Results, budget_results: BudgetResults, folder: Path) -> dict[str, Any] | None:
    """The gate's result, its measures and the closest pairs; None where they were not measured."""
    replicates = budget_results.generative["replicates"]
    if "memorization" not in budget_results.generative or any(
        "memorization" not in row for row in replicates.values()
    ):
        return None
    failed = [name for name, row in replicates.items() if not row["memorization"]["passed"]]
    galleries = [
        {
            "space": words,
            "pairs": pictures.closest_pairs(
                results, budget_results, folder, space=space, most=_CLOSEST_PAIRS
            ),
        }
        for space, words in _SPACES.items()
    ]
    return {
        "passed": len(replicates) - len(failed),
        "count": len(replicates),
        "reasons": [
            f"Replicate {name}: {row['memorization']['reason']}." for name, row in replicates.items()
        ],
        "failed": bool(failed),
        "rule": budget_results.generative["memorization"]["rule"],
        "n": budget_results.generative["memorization"]["n"],
        "table": tables.memorization(budget_results),
        "galleries": galleries,
    }


def _doubts_about_features(generative: Mapping[str, Any]) -> list[str]:
    """Why the metrics in the domain features are not to be trusted, a sentence each; empty where they are."""
    doubts = []
    accuracy = generative.get("extractor_test_accuracy")
    if accuracy is not None and accuracy < _LEAST_ACCURACY:
        doubts.append(
            f"The features are of a network that recognises only {100 * accuracy:.0f} % of the real test images. What"
            " it cannot tell apart, these metrics cannot see: trust the pictures and the classifiers more."
        )
    fid = float(np.mean([row["fid"] for row in generative["replicates"].values()]))
    floor = generative["floor"]["fid"]
    if floor > _MOST_FLOOR * fid:
        doubts.append(
            f"The floor is {100 * floor / fid:.0f} % of the FID: most of what these {generative['n']} images"
            " measure is chance, and smaller differences say nothing."
        )
    return doubts


def _anchor_words(budget_results: BudgetResults) -> str:
    """Whether the GAN, or what stands in its place, beats the copycat, in a sentence."""
    generative = budget_results.generative
    maker = "generator" if budget_results.generator else "GAN"
    fid = float(np.mean([row["fid"] for row in generative["replicates"].values()]))
    copycat, floor = generative["copycat"]["fid"], generative["floor"]["fid"]
    outcome = "beats" if fid < copycat else "does not beat"
    return (
        f"With a mean FID of {fid:.2f}, the {maker} {outcome} the copycat ({copycat:.2f});"
        f" real images reach {floor:.2f} (floor)."
        + ("" if fid < copycat else " By FID alone, repeating the training images would look better.")
    )
