"""The runs of a study as they should be seen, planned from its files. No MLflow here: `tracking` shows them.

Results are read by iterating the parameters: what else lies in the folders is of another study.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.machine_paths import without_machine_paths
from pipeline.markdown import as_markdown
from pipeline.params import Params
from pipeline.results import BudgetResults, ReplicateResults, Results, load_results
from pipeline.study.arms import ARMS
from pipeline.study.metric import WORDS, Metric, columns_on_test, measured
from pipeline.tracking.names import mlflow_key

_DIGEST_LENGTH = 16  # MLflow takes up to 36 characters and shows them in full
_F1_OF_CLASS = "test_f1_"  # of the columns of `cells.csv`
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
        gan: holds `<budget>/<replicate index>/film_strip.png`.
        synthetic: holds `<budget>/<replicate index>.npz`.
        prepared: holds `splits.json`. The splits are named, not read: no test image is opened here.
        report: holds `index.html` and `figures/*.png`.

    Raises:
        SynthGainError: if a file is missing or damaged, or lacks what the parameters declare.
    """
    results = load_results(
        metrics=metrics,
        gan=gan,
        synthetic=synthetic,
        prepared=prepared,
        study=params.study,
    )
    source, train = params.data.source, prepared / "train.npz"
    test = _test_images(results, source)
    children: list[PlannedRun] = []
    rare = _rare_classes(results.comparison)
    for budget in results.budgets:
        rows = results.cells[results.cells["budget"] == str(budget.budget)]
        real_images = int(rows["real_images"].iloc[0])
        children.append(
            _summary_run(budget, real_images, results.arm_rows(budget.budget), rare, params.study.metric)
        )
        for replicate in budget.replicates:
            real, made = _real_and_synthetic(replicate, train, source, real_images)
            children.append(_gan_run(str(budget.budget), replicate, real, made, budget.generator))
            for _, row in rows[rows["replicate"] == replicate.number].iterrows():
                children.append(_cell_run(row, real, made, test))
    return [_study_run(params, params_file, metrics, report, results.comparison, children), *children]


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
        params=_flat(without_machine_paths(params.model_dump())),
        tags={"synthgain.results_sha256": results, "verdict": comparison["verdict"]},
        note=_verdict_and_table(
            comparison["verdict"], comparison["arms"], _rare_classes(comparison), params.study.metric
        ),
        artifacts=artifacts,
    )


def _summary_run(
    results: BudgetResults,
    real_images: int,
    arms: Sequence[Mapping[str, Any]],
    rare: Iterable[str],
    metric: Metric,
) -> PlannedRun:
    """Mean and interval of each arm, `step` = ratio in percent; generative metrics with floor and copycat."""
    budget, finding = results.budget, results.judged
    scores = [replicate.scores for replicate in results.replicates]
    ratios = sorted({float(arm["synthetic_per_real"]) for arm in arms})
    names = {arm["arm"] for arm in arms}
    metrics: list[tuple[str, float, int]] = []
    for arm in arms:
        # An arm without synthetic images is a level line through all ratios ...
        for ratio in [float(arm["synthetic_per_real"])] if arm["synthetic_per_real"] else ratios:
            metrics += _interval(arm, arm["arm"], ratio, metric)
        # ... and where the line of the same training with synthetic images starts.
        for more in ARMS.values() if not arm["synthetic_per_real"] else ():
            if more.name in names and more.adds_synthetic and more.baseline == arm["arm"]:
                metrics += _interval(arm, more.name, 0.0, metric)
    for name in _scores(scores[0]):
        metrics.append((name, sum(row[name] for row in scores) / len(scores), 0))
    for anchor in ("floor", "copycat"):
        row = results.generative[anchor]
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
        note=_verdict_and_table(finding["verdict"], arms, rare, metric),
    )


def _interval(
    arm: Mapping[str, Any], name: str, ratio: float, metric: Metric
) -> list[tuple[str, float, int]]:
    return [
        (f"{column}_{name}{end}", float(arm[column + end]), round(100 * ratio))
        for column in columns_on_test(metric)
        for end in ("", "_low", "_high")
        if arm[column + end] is not None  # one replicate has no interval
    ]


def _gan_run(
    budget: str,
    replicate: ReplicateResults,
    real: Images,
    made: Images,
    generator: Mapping[str, Any] | None,
) -> PlannedRun:
    """Curves with `step` = real images seen, the final generative metrics, and the film strip of one GAN.

    A generator of one's own has neither curves nor film strip, but a name, an author and a licence.
    """
    curves, scores, number = replicate.history, replicate.scores, replicate.number
    metrics = [
        (name, float(row[name]), int(row["images_seen"]))
        for name in curves.columns
        if name not in ("replicate", "step", "images_seen")
        for _, row in curves.iterrows()
        if pd.notna(row[name])  # not every row of the history has every measurement
    ]
    metrics += [(name, value, 0) for name, value in _scores(scores).items()]
    for metric in ("fid", "label_fidelity"):
        for class_name, value in scores[f"{metric}_per_class"].items():
            metrics.append((f"{metric}_class_{mlflow_key(class_name)}", float(value), 0))
    return PlannedRun(
        kind="gan",
        key=f"gan/{budget}/{number}",
        name=f"{budget} · {'generator' if generator else 'gan'} · replicate {number}",
        params={
            "real_images": str(real.count),
            "replicate": str(number),
            **{f"generator.{key}": str(value) for key, value in (generator or {}).items()},
        },
        metrics=metrics,
        tags={"generator_sha256": made.tags["generator_sha256"]},
        inputs=[real],
        artifacts=[(_needed(replicate.film_strip_file), "")] if replicate.film_strip_file else [],
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
            (_cell_metric(str(name)), float(row[name]), 0)
            for name in row.index
            if str(name).startswith(("validation_", "test_")) and pd.notna(row[name])
        ],
        inputs=[*inputs, test],
    )


def _test_images(results: Results, source: str) -> Images:
    """The test split, which is named and not read."""
    prepared, manifest = results.folders.prepared, results.splits
    try:
        count, digest = (manifest["splits"]["test"][key] for key in ("images", "pixels_sha256"))
        shape = (1, manifest["image_size"], manifest["image_size"])
    except KeyError as error:
        raise SynthGainError(
            f"{prepared / 'splits.json'}: no {error.args[0]}; `dvc repro` makes it again"
        ) from None
    return Images(
        f"{source}-test", digest[:_DIGEST_LENGTH], str(prepared / "test.npz"), "testing", count, shape
    )


def _real_and_synthetic(
    replicate: ReplicateResults, train: Path, source: str, real_images: int
) -> tuple[Images, Images]:
    """The real subset of a replicate and what its generator made of it, both known to the latter's file."""
    generator, subset = (str(replicate.provenance[key]) for key in ("generator_sha256", "real_subset_sha256"))
    shape = replicate.synthetic.images.shape[1:]
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
            str(replicate.synthetic_file),
            "training",
            len(replicate.synthetic),
            shape,
            {"generator_sha256": generator},
        ),
    )


def _scores(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float)}


def _cell_metric(column: str) -> str:
    """A column of `cells.csv`, with the class in its name as MLflow takes it."""
    if column.startswith(_F1_OF_CLASS):
        return _F1_OF_CLASS + mlflow_key(column.removeprefix(_F1_OF_CLASS))
    return column


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"gan": {"z_dim": 64}}` as `{"gan.z_dim": "64"}`."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + mlflow_key(str(key))] = str(value)
    return flat


def _rare_classes(comparison: Mapping[str, Any]) -> list[str]:
    """The classes that a verdict may name."""
    return list(comparison.get("imbalance", {}).get("classes", {}))


def _verdict_and_table(
    verdict: str, arms: Sequence[Mapping[str, Any]], rare: Iterable[str], metric: Metric
) -> str:
    """Markdown: the verdict, which names the rare classes, then a row per arm, as far as MLflow has room for them."""
    columns, names = columns_on_test(metric)[:2], [WORDS[name] for name in measured(metric)[:2]]
    lines = [
        verdict if all(as_markdown(name) == name for name in rare) else as_markdown(verdict),
        "",
        f"| real images | arm | synthetic_per_real | test {names[0]} | 95 % interval | {names[1]} | replicates |",
        "| ---: | --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for arm in arms:
        low, high = arm[f"{columns[0]}_low"], arm[f"{columns[0]}_high"]
        interval = "none" if low is None else f"{low:.2%} to {high:.2%}"
        lines.append(
            f"| {arm['budget']} | {arm['arm']} | {arm['synthetic_per_real']:g} | {arm[columns[0]]:.2%}"
            f" | {interval} | {arm[columns[1]]:.2%} | {arm['replicates']} |"
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
