"""One self-contained HTML page with the verdict first, and its pictures as files beside it.

The page needs no network: pictures, style and script are inside, and its content security policy refuses
everything else. All text goes through autoescaping: class names come from a user's folders.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from matplotlib.figure import Figure
from PIL import Image

from pipeline.arms import Budget
from pipeline.errors import SynthGainError
from pipeline.evaluation.cells import (
    ARM_WORDS,
    METRICS,
    DeclaredArm,
    Grid,
    cell_values,
    load_cells,
    load_confusion,
    rows_of_arm,
)
from pipeline.evaluation.comparison import p_value, percent_interval, points, points_interval
from pipeline.evaluation.statistics import paired_difference
from pipeline.figures import (
    DARK,
    LIGHT,
    Theme,
    confusion_matrix,
    differences,
    f1_differences,
    figure_bytes,
    gan_curves,
    ratio_curve,
    sample_grid,
    save_figure,
)
from pipeline.images import LabeledImages
from pipeline.runtime import atomic_output

_TEMPLATES = Path(__file__).parent / "templates"
_HASH_LENGTH = 12  # of 64: enough to compare by eye
_PAGE_BYTES = 7_500_000
_DRAWING_BYTES = 500_000  # all SVG of a budget, light and dark, as base64; measured with ten classes


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


@dataclass(frozen=True)
class Picture:
    """A picture of the page: data URIs for a light and a dark page, and words for those who cannot see it."""

    light: str
    dark: str
    alt: str
    width: int  # CSS pixels at which it is drawn one to one
    caption: str = ""


@dataclass(frozen=True)
class BudgetResults:
    """What the files say about one budget."""

    budget: Budget
    judged: Mapping[str, Any]  # its row of comparison.json
    generative: Mapping[str, Any]  # metrics/synthetic/<budget>.json
    history: pd.DataFrame
    synthetic: Sequence[LabeledImages]  # per replicate
    film_strips: Sequence[bytes]  # PNG, per replicate


@dataclass(frozen=True)
class Results:
    """Everything that the page shows, read from the files of the declared study."""

    grid: Grid
    comparison: Mapping[str, Any]
    cells: pd.DataFrame
    confusion: pd.DataFrame
    train: LabeledImages
    splits: Mapping[str, Any]
    budgets: Sequence[BudgetResults]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order."""
        return self.train.class_names


def load_results(
    *, metrics: Path, gan: Path, synthetic: Path, prepared: Path, grid: Grid, settings: Mapping[str, Any]
) -> Results:
    """Read the results of the declared study; files of anything else are not looked at.

    Args:
        metrics: holds `cells.csv`, `confusion.csv`, `comparison.json`, `gan/<budget>.csv`,
            `synthetic/<budget>.json`.
        gan: holds `<budget>/<replicate>/film_strip.png`.
        synthetic: holds `<budget>/<replicate>.npz`.
        prepared: holds `train.npz` and `splits.json`.
        grid: the declared study.
        settings: the parameters, for the appendix.

    Raises:
        SynthGainError: if a file is missing or damaged, or belongs to another study than the declared one.
    """
    comparison_file = metrics / "comparison.json"
    comparison = _read_json(
        comparison_file,
        needed=("arms", "left_out", "comparisons", "budgets", "verdict", "test_sampling_error"),
    )
    declared = [(budget, arm.name, arm.synthetic_per_real) for budget in grid.budgets for arm in grid.arms()]
    found = [
        (row["budget"], row["arm"], row["synthetic_per_real"])
        for row in (*comparison["arms"], *comparison["left_out"])
    ]
    if sorted(found, key=str) != sorted(declared, key=str) or comparison["replicates"] != grid.replicates:
        raise SynthGainError(
            f"{comparison_file}: compares another study than params.yaml declares; `dvc repro` compares again"
        )
    budgets = [
        BudgetResults(
            budget,
            judged,
            _read_json(metrics / f"synthetic/{budget}.json", needed=("replicates", "floor", "copycat", "n")),
            _read_history(metrics / f"gan/{budget}.csv", grid.replicates),
            [LabeledImages.load(synthetic / f"{budget}/{i}.npz") for i in range(grid.replicates)],
            [_read_png(gan / f"{budget}/{i}/film_strip.png") for i in range(grid.replicates)],
        )
        for budget, judged in zip(grid.budgets, comparison["budgets"], strict=True)
    ]
    results = Results(
        grid=grid,
        comparison=comparison,
        cells=load_cells(metrics / "cells.csv", grid)[0],
        confusion=load_confusion(metrics / "confusion.csv", grid),
        train=LabeledImages.load(prepared / "train.npz"),
        splits=_read_json(prepared / "splits.json", needed=("splits",)),
        budgets=budgets,
        settings=settings,
    )
    for name in results.class_names:
        if f"test_f1_{name}" not in results.cells:
            raise SynthGainError(
                f"{metrics / 'cells.csv'}: no column test_f1_{name}, a class of {prepared / 'train.npz'};"
                " `dvc repro` brings both up to date"
            )
    return results


def write_report(results: Results, out: Path, *, grid_images_per_class: int) -> None:
    """Write `index.html` and `figures/*.svg` and `*.png`; the same results give the same bytes.

    Args:
        results: what `load_results` returned.
        out: replaced as a whole.
        grid_images_per_class: columns of the sample grid, for real and for synthetic images each.
    """
    with atomic_output(out) as folder:
        (folder / "figures").mkdir(parents=True)
        page = _Page(results, folder / "figures", grid_images_per_class)
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        html = environment.get_template("report.html").render(page.content())
        (folder / "index.html").write_text(html, encoding="utf-8")


class _Page:
    """The content of the page, section by section."""

    def __init__(self, results: Results, figures: Path, columns: int) -> None:
        self.results = results
        self.figures = figures
        self.columns = columns
        # Film strips and grids (each twice) share what the drawings leave; base64 adds a third.
        pictures = len(results.budgets) * (2 + results.grid.replicates)
        room = max(_PAGE_BYTES - _DRAWING_BYTES * len(results.budgets), 1_000_000)
        self.bytes_per_picture = room * 3 // 4 // pictures

    def content(self) -> dict[str, Any]:
        """What the template shows."""
        results = self.results
        comparison = results.comparison
        return {
            "source": str(results.settings["data"]["source"]),
            "replicates": results.grid.replicates,
            "test_images": comparison["test_images"],
            "confidence": round(100 * comparison["confidence"]),
            "ratios": [str(ratio) for ratio in results.grid.positive_ratios],
            "verdicts": comparison["budgets"],
            "reading": comparison["verdict"].removeprefix(
                " ".join(row["verdict"] for row in comparison["budgets"])
            ),
            "curve": self._curve(),
            "differences": self._differences() if results.grid.added_arms() else None,
            "arms": self._arms(),
            "comparisons": self._comparisons(),
            "budgets": [self._budget(budget) for budget in results.budgets],
            "splits": self._splits(),
            "dropped": len(results.splits.get("dropped_from_train_and_validation", [])),
            "provenance": self._provenance(),
            "settings": yaml.safe_dump(dict(results.settings), sort_keys=False, allow_unicode=True),
            "some_budget_is_all": "all" in results.grid.budgets,
            "test_error": f"{100 * comparison['test_sampling_error']['standard_error']:.2f}",
            "tests": len(comparison["comparisons"]),
        }

    def _curve(self) -> Picture:
        arms = self.results.comparison["arms"]
        lines = "; ".join(
            f"{row['budget']} real images, {ARM_WORDS[row['arm']]}, {row['synthetic_per_real']} per real:"
            f" {100 * row['test_accuracy']:.2f} %"
            for row in arms
        )
        return self._drawing(
            "ratio_curve",
            lambda theme: ratio_curve(self.results.cells, arms, theme=theme),
            f"Test accuracy against synthetic images per real image. {lines}.",
            "Mean test accuracy (line), its interval (band, cut off where it would squeeze the rest) and each"
            " replicate (small dots).",
        )

    def _differences(self) -> Picture:
        rows = [
            row
            for row in self.results.comparison["comparisons"]
            if row["metric"] == "test_accuracy"
            and DeclaredArm(row["candidate"], row["synthetic_per_real"]) in self.results.grid.added_arms()
        ]
        budgets = list(self.results.grid.budgets)
        augmentations = ["none", "affine", "affine_elastic"]
        rows.sort(
            key=lambda row: (
                budgets.index(row["budget"]),
                augmentations.index(row["classic_augmentation"]),
            )
        )
        words = "; ".join(
            f"{row['budget']} real images, {row['classic_augmentation']}, {row['synthetic_per_real']}:"
            f" {points(row['mean_difference'])} points ({points_interval(row['low'], row['high'])})"
            for row in rows
        )
        return self._drawing(
            "differences",
            lambda theme: differences(rows, theme=theme),
            f"Paired change of test accuracy by adding synthetic images. {words}.",
            "What adding synthetic images changed, replicate by replicate (dots), with mean and interval."
            " An interval that crosses 0 shows no detectable change.",
        )

    def _arms(self) -> Table:
        arms = self.results.comparison["arms"]
        recommended = [
            (row["budget"], row["recommended"]["arm"], row["recommended"]["synthetic_per_real"])
            for row in self.results.comparison["budgets"]
        ]
        keys = [(row["budget"], row["arm"], row["synthetic_per_real"]) for row in arms]
        return Table(
            "Means over replicates in %, with intervals.",
            (
                *self._budget_heading(),
                "arm",
                "per real",
                "test accuracy",
                "interval",
                "validation accuracy",
                "test macro F1",
                "interval",
                "images",
                "steps × batch",
            ),
            [
                [
                    *self._budget_cell(row["budget"]),
                    Cell(ARM_WORDS[row["arm"]]),
                    Cell(str(row["synthetic_per_real"]), row["synthetic_per_real"]),
                    _percent(row["test_accuracy"]),
                    Cell(percent_interval(row["test_accuracy_low"], row["test_accuracy_high"])),
                    _percent(row["validation_accuracy"]),
                    _percent(row["test_macro_f1"]),
                    Cell(percent_interval(row["test_macro_f1_low"], row["test_macro_f1_high"])),
                    _count(row["training_images"]),
                    Cell(f"{row['optimizer_steps']} × {row['batch_size']}"),
                ]
                for row in arms
            ]
            + [
                [
                    *self._budget_cell(row["budget"]),
                    Cell(ARM_WORDS[row["arm"]]),
                    Cell(str(row["synthetic_per_real"]), row["synthetic_per_real"]),
                    Cell("–", -1.0),
                    Cell("left out:"),
                    Cell("–", -1.0),
                    Cell("–", -1.0),
                    Cell(row["reason"]),
                    Cell("–", -1.0),
                    Cell("–"),
                ]
                for row in self.results.comparison["left_out"]
            ],
            frozenset(index for index, key in enumerate(keys) if key in recommended),
        )

    def _comparisons(self) -> Table:
        rows = self.results.comparison["comparisons"]
        by_metric = [[row for row in rows if row["metric"] == metric] for metric in METRICS]
        return Table(
            "Candidate minus baseline on test, in percentage points; intervals of the paired difference.",
            (
                *self._budget_heading(),
                "candidate",
                "per real",
                "baseline",
                "accuracy",
                "interval",
                "p (Holm)",
                "detectable",
                "P(better)",
                "macro F1",
                "interval",
                "accuracy, each replicate",
            ),
            [
                [
                    *self._budget_cell(accuracy["budget"]),
                    Cell(ARM_WORDS[accuracy["candidate"]]),
                    Cell(str(accuracy["synthetic_per_real"]), accuracy["synthetic_per_real"]),
                    Cell(ARM_WORDS[accuracy["baseline"]]),
                    *_difference_cells(accuracy["mean_difference"], accuracy["low"], accuracy["high"]),
                    Cell(p_value(accuracy["p_holm"]), _or_infinite(accuracy["p_holm"])),
                    _detectable(accuracy["minimum_detectable_effect"]),
                    _improvement(accuracy),
                    *_difference_cells(f1["mean_difference"], f1["low"], f1["high"]),
                    Cell("  ".join(points(value) for value in accuracy["differences"])),
                ]
                for accuracy, f1 in zip(*by_metric, strict=True)
            ],
        )

    def _budget(self, of: BudgetResults) -> dict[str, Any]:
        classic = DeclaredArm(**_arm_arguments(of.judged["best_classic"]))
        synthetic = of.judged["best_synthetic"] and DeclaredArm(**_arm_arguments(of.judged["best_synthetic"]))
        return {
            "budget": of.budget,
            "classic": str(classic),
            "synthetic": str(synthetic) if synthetic else "",
            "grid": self._grid(of),
            "film_strips": self._film_strips(of),
            "generative": self._generative(of),
            "facts": of.generative,
            "extractor": str(of.generative["extractor_sha256"])[:_HASH_LENGTH],
            "anchors": _anchor_words(of.generative),
            "floor_disjoint": of.generative.get("floor_disjoint_from_copycat", True),
            "training": self._training(of),
            "confusions": [
                self._confusion(of.budget, arm, name)
                for arm, name in ((classic, "classic"), (synthetic, "synthetic"))
                if arm
            ],
            "f1": self._f1_picture(of.budget, classic, synthetic) if synthetic else None,
            "f1_table": self._f1_table(of.budget, classic, synthetic) if synthetic else None,
            "generative_per_class": self._generative_per_class(of),
        }

    def _grid(self, of: BudgetResults) -> Picture:
        real, synthetic = self.results.train, of.synthetic[0]
        columns = min(self.columns, int(real.counts().min()), int(synthetic.counts().min()))
        figures = [
            sample_grid(
                _first_per_class(real, columns),
                _first_per_class(synthetic, columns),
                self.results.class_names,
                theme=theme,
            )
            for theme in (LIGHT, DARK)
        ]
        save_figure(figures[0], self.figures / f"samples_{of.budget}")
        light, dark = (_pixels_uri(figure_bytes(figure, "png"), self.bytes_per_picture) for figure in figures)
        return Picture(
            light,
            dark,
            f"Real images of the train split beside synthetic images, {columns} of each class:"
            f" {', '.join(self.results.class_names)}.",
            round(0.75 * figures[0].get_figwidth() * figures[0].dpi),
            f"Left: real images of the train split. Right: the first {columns} synthetic images of each"
            f" class, not picked, from replicate 0 ({of.budget} real images).",
        )

    def _film_strips(self, of: BudgetResults) -> list[Picture]:
        pictures = []
        for replicate, png in enumerate(of.film_strips):
            uri = _pixels_uri(png, self.bytes_per_picture)
            with Image.open(io.BytesIO(png)) as image:
                width = image.width
            pictures.append(
                Picture(
                    uri,
                    uri,
                    f"Synthetic images of replicate {replicate} from the start of training to its end.",
                    width,
                    f"Replicate {replicate}: the same latents over training, from left to right.",
                )
            )
        return pictures

    def _training(self, of: BudgetResults) -> Picture:
        last = of.history.groupby("replicate").last().mean(numeric_only=True)
        return self._drawing(
            f"gan_{of.budget}",
            lambda theme: gan_curves(of.history, theme=theme),
            f"GAN training with {of.budget} real images. At the end, mean over replicates: discriminator loss"
            f" {last['d_loss']:.2f}, generator loss {last['g_loss']:.2f}, discriminator accuracy"
            f" {last['d_accuracy']:.0%}, label fidelity {last['label_fidelity_1nn']:.0%}.",
            "Thin: replicates; thick: their mean. D accuracy: the share of pairs in which the discriminator"
            " scores the real image higher; at 50 % (dashed) it cannot tell them apart. Label fidelity here"
            " is a quick look: by the label of the nearest real training image.",
        )

    def _confusion(self, budget: Budget, arm: DeclaredArm, name: str) -> Picture:
        names = list(self.results.class_names)
        table = rows_of_arm(self.results.confusion, budget, arm).pivot_table(
            index="actual", columns="predicted", values="count", aggfunc="sum"
        )
        counts = table.reindex(index=names, columns=names).fillna(0).to_numpy().astype(np.int64)
        wrong = counts - np.diag(np.diag(counts))
        actual, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
        return self._drawing(
            f"confusion_{budget}_{name}",
            lambda theme: confusion_matrix(counts, names, str(arm), theme=theme),
            f"Confusion matrix of {arm}, {budget} real images: {np.trace(counts)} of {counts.sum()}"
            f" predictions right; the most frequent confusion is {names[actual]} taken for"
            f" {names[predicted]}, {wrong.max()} times.",
            f"{arm}: test predictions, summed over replicates; shade: share of the row.",
        )

    def _f1_picture(self, budget: Budget, classic: DeclaredArm, synthetic: DeclaredArm) -> Picture:
        names = self.results.class_names
        values = np.stack(
            [np.subtract(*self._f1(budget, name, synthetic, classic)) for name in names], axis=1
        )
        words = "; ".join(
            f"{name}: {points(mean)}" for name, mean in zip(names, values.mean(axis=0), strict=True)
        )
        return self._drawing(
            f"f1_{budget}",
            lambda theme: f1_differences(values, names, theme=theme),
            f"Change of F1 per class in points, {synthetic} against {classic}, {budget} real: {words}.",
            f"Change of each class's F1: {synthetic}, against {classic}. Lines: intervals; dots: replicates.",
        )

    def _f1(self, budget: Budget, name: str, *arms: DeclaredArm) -> list[npt.NDArray[np.float64]]:
        return [cell_values(self.results.cells, budget, arm, f"test_f1_{name}") for arm in arms]

    def _f1_table(self, budget: Budget, classic: DeclaredArm, synthetic: DeclaredArm) -> Table:
        rows = []
        for name in self.results.class_names:
            after, before = self._f1(budget, name, synthetic, classic)
            change = paired_difference(baseline=before, candidate=after)
            rows.append(
                [
                    Cell(name),
                    _percent(before.mean()),
                    _percent(after.mean()),
                    *_difference_cells(change.mean, change.low, change.high),
                ]
            )
        return Table(
            f"F1 on test in %: classic is {classic}, synthetic is {synthetic}.",
            ("class", "classic", "synthetic", "points", "interval"),
            rows,
        )

    def _generative_per_class(self, of: BudgetResults) -> Table:
        replicates = list(of.generative["replicates"].values())

        def mean(metric: str, name: str) -> float:
            return float(np.mean([scores[f"{metric}_per_class"][name] for scores in replicates]))

        floor = of.generative["floor"]["fid_per_class"]
        return Table(
            "Per class, means over replicates.",
            ("class", "label fidelity (%)\N{NO-BREAK SPACE}↑", "FID\N{NO-BREAK SPACE}↓", "floor FID"),
            [
                [
                    Cell(name),
                    _percent(mean("label_fidelity", name)),
                    Cell(f"{mean('fid', name):.2f}", mean("fid", name)),
                    Cell(f"{floor[name]:.2f}", floor[name]),
                ]
                for name in self.results.class_names
            ],
        )

    def _generative(self, of: BudgetResults) -> Table:
        replicates = range(self.results.grid.replicates)
        named = [(f"replicate {i}", of.generative["replicates"][str(i)]) for i in replicates]
        anchors = [
            ("floor", of.generative["floor"]),
            ("copycat", of.generative["copycat"]),
        ]
        numbers = {
            "fid": ".2f",
            "kid": ".4f",
            "precision": ".3f",
            "recall": ".3f",
            "density": ".3f",
            "coverage": ".3f",
        }
        return Table(
            "Compared with real test images.",
            (
                "images",
                "FID\N{NO-BREAK SPACE}↓",
                "KID\N{NO-BREAK SPACE}↓",
                "precision\N{NO-BREAK SPACE}↑",
                "recall\N{NO-BREAK SPACE}↑",
                "density\N{NO-BREAK SPACE}↑",
                "coverage\N{NO-BREAK SPACE}↑",
                "label fidelity (%)\N{NO-BREAK SPACE}↑",
            ),
            [
                [
                    Cell(name),
                    *(Cell(f"{row[metric]:{form}}", row[metric]) for metric, form in numbers.items()),
                    _percent(row["label_fidelity"]),
                ]
                for name, row in named + anchors
            ],
            frozenset((len(named), len(named) + 1)),
        )

    def _splits(self) -> Table:
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
                    Cell(facts["index_sha256"][:_HASH_LENGTH]),
                    Cell(facts["pixels_sha256"][:_HASH_LENGTH]),
                ]
                for name in ("train", "validation", "test")
                for facts in (self.results.splits["splits"][name],)
            ],
        )

    def _provenance(self) -> Table:
        return Table(
            "Each replicate's own real subset, generator and synthetic images (hashes: SHA-256, shortened).",
            (*self._budget_heading(), "replicate", "real subset", "generator", "seed", "synthetic images"),
            [
                [
                    *self._budget_cell(of.budget),
                    Cell(str(replicate), replicate),
                    Cell(str(images.provenance["real_subset_sha256"])[:_HASH_LENGTH]),
                    Cell(str(images.provenance["generator_sha256"])[:_HASH_LENGTH]),
                    Cell(str(images.provenance["seed"])),
                    _count(len(images)),
                ]
                for of in self.results.budgets
                for replicate, images in enumerate(of.synthetic)
            ],
        )

    def _budget_heading(self) -> list[str]:
        """A column of equal values would push what matters off a phone's screen."""
        return ["real images"] if len(self.results.budgets) > 1 else []

    def _budget_cell(self, budget: Budget) -> list[Cell]:
        value = float("inf") if budget == "all" else float(budget)
        return [Cell(str(budget), value)] if len(self.results.budgets) > 1 else []

    def _drawing(self, name: str, draw: Callable[[Theme], Figure], alt: str, caption: str) -> Picture:
        light = draw(LIGHT)
        save_figure(light, self.figures / name)
        return Picture(
            _uri("svg+xml", (self.figures / f"{name}.svg").read_bytes()),
            _uri("svg+xml", figure_bytes(draw(DARK), "svg")),
            alt,
            round(96 * light.get_figwidth()),
            caption,
        )


def _percent(fraction: float) -> Cell:
    return Cell(f"{100 * fraction:.2f}", fraction)


def _difference_cells(mean: float, low: float | None, high: float | None) -> list[Cell]:
    return [Cell(points(mean), mean), Cell(points_interval(low, high), low)]


def _detectable(effect: float | None) -> Cell:
    return Cell("–" if effect is None else f"{100 * effect:.2f}", _or_infinite(effect))


def _improvement(row: Mapping[str, Any]) -> Cell:
    """The share of replicates that improved, and its interval where replicates disagree."""
    share, low, high = (row[f"probability_of_improvement{end}"] for end in ("", "_low", "_high"))
    interval = "" if low is None else f" ({low:.2f} to {high:.2f})"
    return Cell(f"{share:.2f}{interval}", share)


def _or_infinite(value: float | None) -> float:
    """What an unknown value is sorted by."""
    return float("inf") if value is None else value


def _count(number: int) -> Cell:
    return Cell(f"{number:,}".replace(",", " "), number)


def _arm_arguments(key: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": key["arm"], "synthetic_per_real": key["synthetic_per_real"]}


def _anchor_words(generative: Mapping[str, Any]) -> str:
    """Whether the GAN beats the copycat, in a sentence."""
    fid = float(np.mean([row["fid"] for row in generative["replicates"].values()]))
    copycat, floor = generative["copycat"]["fid"], generative["floor"]["fid"]
    outcome = "beats" if fid < copycat else "does not beat"
    return (
        f"With a mean FID of {fid:.2f}, the GAN {outcome} the copycat ({copycat:.2f});"
        f" real images reach {floor:.2f} (floor)."
        + ("" if fid < copycat else " By FID alone, repeating the training images would look better.")
    )


def _first_per_class(images: LabeledImages, columns: int) -> npt.NDArray[np.uint8]:
    """(classes, columns, H, W): the first images of each class."""
    return np.stack(
        [images.images[images.labels == label][:columns, 0] for label in range(images.num_classes)]
    )


def _pixels_uri(png: bytes, most: int) -> str:
    """A PNG of at most `most` bytes as a data URI, scaled down as far as that needs."""
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.copy()
    while len(png) > most and min(image.size) > 8:
        image = image.resize(
            (max(image.width * 3 // 4, 1), max(image.height * 3 // 4, 1)), Image.Resampling.LANCZOS
        )
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", optimize=True)
        png = buffer.getvalue()
    return _uri("png", png)


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _read_json(path: Path, *, needed: Sequence[str]) -> dict[str, Any]:
    try:
        values = json.loads(_read_bytes(path))
    except ValueError as error:
        raise SynthGainError(f"{path}: not valid JSON ({error}); make it again") from None
    missing = [key for key in needed if not isinstance(values, dict) or key not in values]
    if missing:
        raise SynthGainError(f"{path}: no {', '.join(missing)}; `dvc repro` makes it again")
    return dict(values)


def _read_history(path: Path, replicates: int) -> pd.DataFrame:
    columns = ["replicate", "images_seen", "d_loss", "g_loss", "d_accuracy", "label_fidelity_1nn"]
    try:
        history = pd.read_csv(io.BytesIO(_read_bytes(path)))[columns]
    except (ValueError, KeyError) as error:
        raise SynthGainError(
            f"{path}: not a training history ({error}); `dvc repro` makes it again"
        ) from None
    history = history[history["replicate"].isin(range(replicates))]
    if history["replicate"].nunique() < replicates:
        raise SynthGainError(f"{path}: not every replicate of 0..{replicates - 1} is there; run `dvc repro`")
    return history


def _read_png(path: Path) -> bytes:
    png = _read_bytes(path)
    try:
        with Image.open(io.BytesIO(png)) as image:
            image.load()
    except OSError as error:
        raise SynthGainError(f"{path}: not a readable picture ({error}); `dvc repro` makes it") from None
    return png


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise SynthGainError(f"{path}: no such file; `dvc repro` makes it") from None
