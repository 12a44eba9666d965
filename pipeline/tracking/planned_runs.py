"""The runs of a study as they should be seen, planned from its files. No MLflow here: `tracking` shows them.

Results are read by iterating the parameters: what else lies in the folders is of another study.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pipeline.checkpoints import file_sha256
from pipeline.comparison.cells import load_cells
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.params import Params
from pipeline.study.arms import ARMS
from pipeline.study.grid import Grid
from pipeline.study.subsets import replicate_numbers

_DIGEST_LENGTH = 16  # MLflow takes up to 36 characters and shows them in full
_MAX_NOTE_LENGTH = 8000  # MLflow's limit for a tag, and the description is one


@dataclass(frozen=True)
class Images:
    """A set of images that went into a run.

    Attributes:
        name: `mnist-real`.
        digest: the first digits of a hash that identifies the images.
        source: the file that holds them.
        context: what the run did with them: training or testing.
        count: how many there are.
        shape: (1, H, W) of one image, uint8.
        tags: what tells this use of them from others.
    """

    name: str
    digest: str
    source: str
    context: Literal["training", "testing"]
    count: int
    shape: tuple[int, ...]
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedRun:
    """A run as it should stand in MLflow.

    Attributes:
        kind: study (the state of the pipeline, and parent of GANs and cells), summary (of a budget), gan or
            cell.
        key: what the run is about: the same in each state of the pipeline.
        name: what the user interface calls it.
        params: values to filter and group by.
        metrics: (name, value, step).
        tags: texts.
        note: its description, Markdown.
        inputs: the images that were used.
        artifacts: (file, folder within the run or "").
    """

    kind: Literal["study", "summary", "gan", "cell"]
    key: str
    name: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[tuple[str, float, int]] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    inputs: Sequence[Images] = ()
    artifacts: Sequence[tuple[Path, str]] = ()

    @property
    def is_child(self) -> bool:
        """Whether the study is its parent. MLflow folds children away; summaries should be seen at once."""
        return self.kind in ("gan", "cell")

    def content_sha256(self) -> str:
        """The hash of all that is logged: of files their name and bytes, not where they lie."""
        content = dataclasses.asdict(self)
        content["artifacts"] = [(folder, file.name, file_sha256(file)) for file, folder in self.artifacts]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def experiment_name(params: Params, *, trial: str | None = None) -> str:
    """The MLflow experiment of a study, and its registered model; a trial beside the workspace has its own."""
    name = f"{params.tracking.experiment}-{params.data.source}"
    return (
        name if trial is None else f"{name}-{re.sub('[/:]', '_', trial)}"
    )  # signs that no model's name may hold


def plan_runs(
    params: Params,
    *,
    params_file: Path,
    metrics: Path,
    gan: Path,
    synthetic: Path,
    prepared: Path,
    report: Path,
) -> list[PlannedRun]:
    """The runs of the declared study: the parent, then a summary, the GANs and the cells of each budget.

    Args:
        params: the parameters.
        params_file: the file they come from.
        metrics: holds `cells.csv`, `confusion.csv`, `comparison.json`, `gan/<budget>.csv` and
            `synthetic/<budget>.json`.
        gan: holds `<budget>/<replicate>/film_strip.png`.
        synthetic: holds `<budget>/<replicate>.npz`.
        prepared: holds `splits.json`. The splits are named, not read: no test image is opened here.
        report: holds `index.html` and `figures/*.png`.

    Raises:
        SynthGainError: if a file is missing or damaged, or lacks what the parameters declare.
    """
    study = params.study
    grid = Grid.declared(study)
    cells, _ = load_cells(metrics / "cells.csv", grid)
    comparison = _read_json(metrics / "comparison.json", needed=("arms", "budgets", "verdict"))
    test = _test_images(prepared, params.data.source)
    children: list[PlannedRun] = []
    for budget in map(str, grid.budgets):
        rows = cells[cells["budget"] == budget]
        real_images = int(rows["real_images"].iloc[0])
        quality_file = metrics / "synthetic" / f"{budget}.json"
        quality = _read_json(quality_file, needed=("replicates", "floor", "copycat"))
        history_file = metrics / "gan" / f"{budget}.csv"
        history = _read_table(history_file, needed=("replicate", "images_seen"))
        for replicate in replicate_numbers(grid.replicates):
            for file, found in (
                (history_file, (history["replicate"] == replicate).any()),
                (quality_file, str(replicate) in quality["replicates"]),
            ):
                if not found:
                    raise SynthGainError(f"{file}: replicate {replicate} is missing; `dvc repro` adds it")
        scores = [quality["replicates"][str(replicate)] for replicate in replicate_numbers(grid.replicates)]
        anchors = {name: quality[name] for name in ("floor", "copycat")}
        children.append(_summary_run(budget, real_images, comparison, scores, anchors))
        for index, replicate in enumerate(replicate_numbers(grid.replicates)):
            curves = history[history["replicate"] == replicate]
            real, made = _real_and_synthetic(
                synthetic / budget / f"{index}.npz",
                prepared / "train.npz",
                params.data.source,
                real_images,
            )
            film_strip = gan / budget / str(index) / "film_strip.png"
            children.append(_gan_run(budget, replicate, curves, scores[index], real, made, film_strip))
            for _, row in rows[rows["replicate"] == replicate].iterrows():
                children.append(_cell_run(row, real, made, test))
    return [_study_run(params, params_file, metrics, report, comparison, children), *children]


def _study_run(
    params: Params,
    params_file: Path,
    metrics: Path,
    report: Path,
    comparison: Mapping[str, Any],
    children: Sequence[PlannedRun],
) -> PlannedRun:
    tables = [metrics / name for name in ("cells.csv", "confusion.csv", "comparison.json")]
    artifacts = [(file, "") for file in (params_file, *tables, report / "index.html")]
    artifacts += [(file, "figures") for file in sorted((report / "figures").glob("*.png"))]
    for file, _ in artifacts:
        _needed(file)
    # The parent stands for the state of the whole: it is another one as soon as any of its children is.
    results = hashlib.sha256("".join(run.content_sha256() for run in children).encode()).hexdigest()
    return PlannedRun(
        kind="study",
        key="study",
        name=f"study · {params.data.source} · {results[:8]}",
        params=_flat(params.model_dump()),
        tags={"synthgain.results_sha256": results, "verdict": comparison["verdict"]},
        note=_verdict_and_table(comparison["verdict"], comparison["arms"]),
        artifacts=artifacts,
    )


def _summary_run(
    budget: str,
    real_images: int,
    comparison: Mapping[str, Any],
    scores: Sequence[Mapping[str, Any]],
    anchors: Mapping[str, Mapping[str, Any]],
) -> PlannedRun:
    """Mean and interval of each arm, `step` = ratio in percent; generative metrics with floor and copycat."""
    arms = [arm for arm in comparison["arms"] if str(arm["budget"]) == budget]
    finding = next((finding for finding in comparison["budgets"] if str(finding["budget"]) == budget), None)
    if not arms or finding is None:
        raise SynthGainError(f"comparison.json: budget {budget} is missing; `dvc repro` adds it")
    ratios = sorted({float(arm["synthetic_per_real"]) for arm in arms})
    names = {arm["arm"] for arm in arms}
    metrics: list[tuple[str, float, int]] = []
    for arm in arms:
        # An arm without synthetic images is a level line through all ratios ...
        for ratio in [float(arm["synthetic_per_real"])] if arm["synthetic_per_real"] else ratios:
            metrics += _interval(arm, arm["arm"], ratio)
        # ... and where the line of the same training with synthetic images starts.
        for more in ARMS.values() if not arm["synthetic_per_real"] else ():
            if more.name in names and more.adds_synthetic and more.baseline == arm["arm"]:
                metrics += _interval(arm, more.name, 0.0)
    for name in _scores(scores[0]):
        metrics.append((name, sum(row[name] for row in scores) / len(scores), 0))
    for anchor, row in anchors.items():
        metrics += [(f"{anchor}_{name}", value, 0) for name, value in _scores(row).items()]
    for name, key in (
        ("gain_over_best_classic", "mean_difference"),
        ("gain_over_best_classic_low", "low"),
        ("gain_over_best_classic_high", "high"),
        ("minimum_detectable_effect", "minimum_detectable_effect"),
        ("probability_of_improvement", "probability_of_improvement"),
    ):
        if finding[key] is not None:
            metrics.append((name, float(finding[key]), 0))
    recommended = finding["recommended"]
    return PlannedRun(
        kind="summary",
        key=f"summary/{budget}",
        name=f"{budget} · summary",
        params={
            "real_images": str(real_images),
            "recommended_arm": recommended["arm"],
            "recommended_synthetic_per_real": f"{recommended['synthetic_per_real']:g}",
        },
        metrics=metrics,
        tags={"verdict": finding["verdict"], "verdict_code": finding["code"]},
        note=_verdict_and_table(finding["verdict"], arms),
    )


def _interval(arm: Mapping[str, Any], name: str, ratio: float) -> list[tuple[str, float, int]]:
    return [
        (f"{metric}_{name}{end}", float(arm[metric + end]), round(100 * ratio))
        for metric in ("test_accuracy", "test_macro_f1")
        for end in ("", "_low", "_high")
        if arm[metric + end] is not None  # one replicate has no interval
    ]


def _gan_run(
    budget: str,
    replicate: int,
    curves: pd.DataFrame,
    scores: Mapping[str, Any],
    real: Images,
    made: Images,
    film_strip: Path,
) -> PlannedRun:
    """Curves with `step` = real images seen, the final generative metrics, and the film strip of one GAN."""
    metrics = [
        (_metric_name(name), float(row[name]), int(row["images_seen"]))
        for name in curves.columns
        if name not in ("replicate", "step", "images_seen")
        for _, row in curves.iterrows()
        if pd.notna(row[name])  # not every row of the history has every measurement
    ]
    metrics += [(name, value, 0) for name, value in _scores(scores).items()]
    for metric in ("fid", "label_fidelity"):
        for class_name, value in scores[f"{metric}_per_class"].items():
            metrics.append((_metric_name(f"{metric}_class_{class_name}"), float(value), 0))
    return PlannedRun(
        kind="gan",
        key=f"gan/{budget}/{replicate}",
        name=f"{budget} · gan · replicate {replicate}",
        params={"real_images": str(real.count), "replicate": str(replicate)},
        metrics=metrics,
        tags={"generator_sha256": made.tags["generator_sha256"]},
        inputs=[real],
        artifacts=[(_needed(film_strip), "")],
    )


def _cell_run(row: pd.Series[Any], real: Images, made: Images, test: Images) -> PlannedRun:
    """One classifier training: what to group by, fractions right on validation and test, and its images."""
    budget, arm, replicate = str(row["budget"]), str(row["arm"]), int(row["replicate"])
    ratio = f"{row['synthetic_per_real']:g}"
    inputs = [real] if ARMS[arm].uses_real else []
    if ARMS[arm].uses_synthetic:
        inputs.append(dataclasses.replace(made, tags={**made.tags, "synthetic_per_real": ratio}))
    if not row["real_subset_sha256"].startswith(real.digest):
        raise SynthGainError(
            f"cells.csv: budget {budget}, replicate {replicate} has other real images than the GAN of"
            f" {made.source}; `dvc repro` brings both up to date"
        )
    counts = ("real_images", "replicate", "training_images", "optimizer_steps", "batch_size")
    return PlannedRun(
        kind="cell",
        key=f"cell/{budget}/{arm}/{ratio}/{replicate}",
        name=f"{budget} · {arm} · {ratio} · replicate {replicate}",
        params={
            "arm": arm,
            "synthetic_per_real": ratio,
            "classic_augmentation": str(row["classic_augmentation"]),
            **{name: str(int(row[name])) for name in counts},
        },
        metrics=[
            (_metric_name(str(name)), float(row[name]), 0)
            for name in row.index
            if str(name).startswith(("validation_", "test_")) and pd.notna(row[name])
        ],
        inputs=[*inputs, test],
    )


def _test_images(prepared: Path, source: str) -> Images:
    manifest = _read_json(prepared / "splits.json", needed=("image_size", "splits"))
    try:
        count, digest = (manifest["splits"]["test"][key] for key in ("images", "pixels_sha256"))
    except KeyError as error:
        raise SynthGainError(
            f"{prepared / 'splits.json'}: no {error} of test; `dvc repro` makes it again"
        ) from None
    shape = (1, manifest["image_size"], manifest["image_size"])
    return Images(
        f"{source}-test", digest[:_DIGEST_LENGTH], str(prepared / "test.npz"), "testing", count, shape
    )


def _real_and_synthetic(path: Path, train: Path, source: str, real_images: int) -> tuple[Images, Images]:
    """The real subset of a replicate and what its generator made of it, both known to the latter's file."""
    synthetic = LabeledImages.load(path)
    try:
        generator = str(synthetic.provenance["generator_sha256"])
        subset = str(synthetic.provenance["real_subset_sha256"])
    except KeyError as error:
        raise SynthGainError(f"{path}: its provenance has no {error}; `dvc repro` makes it again") from None
    shape = synthetic.images.shape[1:]
    return (
        Images(
            f"{source}-real",
            subset[:_DIGEST_LENGTH],
            str(train),
            "training",
            real_images,
            shape,
            {"real_subset_sha256": subset},
        ),
        Images(
            f"{source}-synthetic",
            generator[:_DIGEST_LENGTH],
            str(path),
            "training",
            len(synthetic),
            shape,
            {"generator_sha256": generator},
        ),
    )


def _scores(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float)}


def _metric_name(name: str) -> str:
    """A name that MLflow takes: a class may be called anything, a metric may not."""
    return re.sub(r"[^\w. -]", "_", name)[:250]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"gan": {"z_dim": 64}}` as `{"gan.z_dim": "64"}`."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat


def _verdict_and_table(verdict: str, arms: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: the verdict, then a row per arm, as far as MLflow has room for them."""
    lines = [
        verdict,
        "",
        "| real images | arm | synthetic_per_real | test accuracy | 95 % interval | macro F1 | replicates |",
        "| ---: | --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for arm in arms:
        low, high = arm["test_accuracy_low"], arm["test_accuracy_high"]
        interval = "none" if low is None else f"{low:.2%} to {high:.2%}"
        lines.append(
            f"| {arm['budget']} | {arm['arm']} | {arm['synthetic_per_real']:g} | {arm['test_accuracy']:.2%}"
            f" | {interval} | {arm['test_macro_f1']:.2%} | {arm['replicates']} |"
        )
    text = "\n".join(lines)
    rest = "\n\nThe other arms: see the report among the artifacts."
    if len(text) > _MAX_NOTE_LENGTH:
        text = text[: _MAX_NOTE_LENGTH - len(rest)].rpartition("\n")[0] + rest
    return text


def _needed(path: Path) -> Path:
    if not path.is_file():
        raise SynthGainError(f"{path}: no such file; `dvc repro` makes it")
    return path


def _read_json(path: Path, *, needed: Sequence[str]) -> dict[str, Any]:
    try:
        values = json.loads(_needed(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise SynthGainError(f"{path}: not valid JSON ({error}); `dvc repro` makes it again") from None
    if missing := [key for key in needed if key not in values]:
        raise SynthGainError(f"{path}: {', '.join(missing)} is missing; `dvc repro` makes it again")
    return dict(values)


def _read_table(path: Path, *, needed: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(_needed(path))
    except ValueError as error:  # pandas' parser errors are of this kind
        raise SynthGainError(f"{path}: not a readable table ({error}); `dvc repro` makes it again") from None
    if missing := [column for column in needed if column not in table.columns]:
        raise SynthGainError(f"{path}: column {', '.join(missing)} is missing; `dvc repro` makes it again")
    return table
