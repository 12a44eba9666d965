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
from matplotlib import colormaps
from matplotlib.colors import to_hex

from pipeline.checkpoints import file_sha256
from pipeline.comparison.summary import summarize
from pipeline.errors import SynthGainError
from pipeline.machine_paths import without_machine_paths
from pipeline.markdown import as_markdown
from pipeline.params import Params
from pipeline.results import BudgetResults, ReplicateResults, ResultFolders, Results, load_results
from pipeline.study.arms import ARMS
from pipeline.study.metric import WORDS, Metric, columns_on_test, measured
from pipeline.study.subsets import Budget
from pipeline.tracking.names import mlflow_key

_DIGEST_LENGTH = 16  # MLflow takes up to 36 characters and shows them in full
_F1_OF_CLASS = "test_f1_"  # of the columns of `cells.csv`
# What a study's numbers are called where no table says what they are.
_OF_STUDY = {
    **{
        f"{name}{'' if metric == 'accuracy' else f'_{metric}'}": f"test_{metric}_{name}_synthetic"
        for name in ("without", "with")
        for metric in WORDS
    },
    "gain": "gain",
    "low": "gain_low",
    "high": "gain_high",
    "ratio": "recommended_ratio",
    "rare_recall_gain": "rare_recall_gain",
    "fid": "fid",
}
# Of curves, ten strong colours and then ten light ones: MLflow itself picks by the run's id, and may pick one twice.
_COLOURS = [to_hex(colormaps["tab20"](place)) for place in [*range(0, 20, 2), *range(1, 20, 2)]]
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
        kind: study (the state of the pipeline, and parent of GANs and cells), summary (of a budget), curve (of an
            arm over the ratios), gan or cell.
        key: what the run is about: the same in each state of the pipeline.
        name: what the user interface calls it.
        params: values to filter and group by.
        metrics: (name, value, step).
        tags: texts.
        note: its description, Markdown.
        inputs: the images that were used.
        artifacts: (file, folder within the run or "").
    """

    kind: Literal["study", "summary", "curve", "gan", "cell"]
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
        """Whether the study is its parent. MLflow folds children away; summaries and curves should be seen at once."""
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


def plan_runs(params: Params, folders: ResultFolders, *, params_file: Path, report: Path) -> list[PlannedRun]:
    """The runs of the declared study: the parent, then a summary, the curves, the GANs and the cells of each budget.

    Args:
        params: the parameters.
        folders: where the results lie. The splits are named, not read: no test image is opened here.
        params_file: the file the parameters come from.
        report: holds `index.html` and `figures/*.png`.

    Raises:
        SynthGainError: if a file is missing or damaged, or lacks what the parameters declare.
    """
    results = load_results(folders, params.study)
    source, train = params.data.source, folders.prepared / "train.npz"
    test = _test_images(results, source)
    children: list[PlannedRun] = []
    rare = _rare_classes(results.comparison)
    of_rare = {row["budget"]: row for row in results.comparison.get("imbalance", {}).get("budgets", [])}
    for budget in results.budgets:
        rows = results.cells[results.cells["budget"] == str(budget.budget)]
        real_images = int(rows["real_images"].iloc[0])
        arms = results.arm_rows(budget.budget)
        children.append(
            _summary_run(
                budget, real_images, arms, rare, params.study.metric, of_rare=of_rare.get(budget.budget)
            )
        )
        curves = sum(run.kind == "curve" for run in children)
        children += _curve_runs(budget.budget, real_images, arms, params.study.metric, before=curves)
        for replicate in budget.replicates:
            real, made = real_and_synthetic(replicate, train, source, real_images)
            children.append(gan_run(str(budget.budget), replicate, real, made, budget.generator))
            for _, row in rows[rows["replicate"] == replicate.number].iterrows():
                children.append(_cell_run(row, replicate, real, made, test))
    study = _study_run(params, params_file, report, results, children)
    return [study, *children]


def _study_run(
    params: Params,
    params_file: Path,
    report: Path,
    results: Results,
    children: Sequence[PlannedRun],
) -> PlannedRun:
    comparison = results.comparison
    tables = [results.folders.metrics / name for name in ("cells.csv", "confusion.csv", "comparison.json")]
    artifacts = [(file, "") for file in (params_file, *tables, report / "index.html")]
    artifacts += [(file, "figures") for file in sorted((report / "figures").glob("*.png"))]
    for file, _ in artifacts:
        _needed(file)
    # The parent stands for the state of the whole: it is another one as soon as any of its children is.
    digest = hashlib.sha256("".join(run.content_sha256() for run in children).encode()).hexdigest()
    return PlannedRun(
        kind="study",
        key="study",
        name=f"study · {params.data.source} · {digest[:8]}",
        params=flat_params(params),
        metrics=_study_metrics(results),
        tags={"synthgain.results_sha256": digest, "verdict": comparison["verdict"]},
        note=_verdict_and_table(
            comparison["verdict"], comparison["arms"], _rare_classes(comparison), params.study.metric
        ),
        artifacts=artifacts,
    )


def _study_metrics(results: Results) -> list[tuple[str, float, int]]:
    """The numbers of the summary of each budget, with `step` = its real images."""
    generative = {str(budget.budget): budget.generative for budget in results.budgets}
    real_images = dict(zip(results.cells["budget"], results.cells["real_images"], strict=True))
    return [
        (_OF_STUDY[name], value, int(real_images[budget]))
        for budget, numbers in summarize(results.comparison, generative).items()
        for name, value in numbers.items()
    ]


def _summary_run(
    results: BudgetResults,
    real_images: int,
    arms: Sequence[Mapping[str, Any]],
    rare: Iterable[str],
    metric: Metric,
    *,
    of_rare: Mapping[str, Any] | None,
) -> PlannedRun:
    """The finding of a budget, that on its rare classes if there is one, and generative metrics with their anchors."""
    budget, finding = results.budget, results.judged
    scores = [replicate.scores for replicate in results.replicates]
    metrics: list[tuple[str, float, int]] = []
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
    recommended, sentence = finding["recommended"], finding["verdict"]
    tags = {"verdict": sentence, "verdict_code": finding["code"]}
    if of_rare is not None:
        metrics += _rare_metrics(of_rare)
        sentence = f"{of_rare['verdict']} {sentence}"
        tags |= {
            "verdict_on_rare_classes": of_rare["verdict"],
            "verdict_code_on_rare_classes": of_rare["code"],
        }
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
        tags=tags,
        note=_verdict_and_table(sentence, arms, rare, metric),
    )


def _rare_metrics(finding: Mapping[str, Any]) -> list[tuple[str, float, int]]:
    """What synthetic images gave over the best rival without a generator, and to the rare classes' mean recall."""
    parts = {"gain_over_best_remedy": finding, "rare_recall_gain": finding.get("rare_recall", {})}
    return [
        (f"{name}{end}", float(part[key]), 0)
        for name, part in parts.items()
        for end, key in (("", "mean_difference"), ("_low", "low"), ("_high", "high"))
        if part.get(key) is not None
    ]


def _curve_runs(
    budget: Budget, real_images: int, arms: Sequence[Mapping[str, Any]], metric: Metric, *, before: int
) -> list[PlannedRun]:
    """A run per arm: mean and interval at each ratio, with `step` = the ratio in percent.

    An arm without synthetic images is a level line through all ratios. One that adds them starts at 0 with the same
    training without. The colours go on from the curves `before`.
    """
    ratios = sorted({float(row["synthetic_per_real"]) for row in arms})
    by_arm: dict[str, list[Mapping[str, Any]]] = {}
    for row in arms:
        by_arm.setdefault(row["arm"], []).append(row)
    runs: list[PlannedRun] = []
    for name, rows in by_arm.items():
        arm = ARMS[name]
        points = [(float(row["synthetic_per_real"]), row) for row in rows]
        if rows[0]["synthetic_per_real"] == 0:
            points = [(ratio, rows[0]) for ratio in ratios]
        elif arm.adds_synthetic and arm.baseline in by_arm:
            points.insert(0, (0.0, by_arm[arm.baseline][0]))
        runs.append(
            PlannedRun(
                kind="curve",
                key=f"curve/{budget}/{name}",
                name=f"{budget} · {arm.short_words}",
                params={"arm": name, "real_images": str(real_images), "classic_augmentation": arm.policy},
                metrics=[
                    (column + end, float(row[column + end]), round(100 * ratio))
                    for column in columns_on_test(metric)
                    for end in ("", "_low", "_high")
                    for ratio, row in points
                    if row[column + end] is not None  # one replicate has no interval
                ],
                tags={"mlflow.runColor": _COLOURS[(before + len(runs)) % len(_COLOURS)]},
            )
        )
    return runs


def training_curves(history: pd.DataFrame) -> list[tuple[str, float, int]]:
    """(name, value, real images seen) of every measurement of a GAN's training."""
    return [
        (name, float(row[name]), int(row["images_seen"]))
        for name in history.columns
        if name not in ("replicate", "step", "images_seen")
        for _, row in history.iterrows()
        if pd.notna(row[name])  # not every row of the history has every measurement
    ]


def gan_run(
    budget: str,
    replicate: ReplicateResults,
    real: Images,
    made: Images,
    generator: Mapping[str, Any] | None,
) -> PlannedRun:
    """Curves with `step` = real images seen, the final generative metrics, and the film strip of one GAN.

    A generator of one's own has neither curves nor film strip, but a name, an author and a licence.
    """
    scores, number = replicate.scores, replicate.number
    metrics = training_curves(replicate.history)
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


def _cell_run(
    row: pd.Series[Any], replicate_results: ReplicateResults, real: Images, made: Images, test: Images
) -> PlannedRun:
    """One classifier training: what to group by, fractions right on validation and test, and its images.

    One with synthetic images has their FID too, for tables that show both.
    """
    budget, arm, replicate = str(row["budget"]), str(row["arm"]), int(row["replicate"])
    ratio = f"{row['synthetic_per_real']:g}"
    inputs = [real] if ARMS[arm].uses_real else []
    fid = []
    if ARMS[arm].uses_synthetic:
        fid = [("fid", float(replicate_results.scores["fid"]), 0)]
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
        ]
        + fid,
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


def real_and_synthetic(
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


def flat_params(params: Params) -> dict[str, str]:
    """All of `params.yaml` as a run's params, without paths of this machine."""
    return _flat(without_machine_paths(params.model_dump()))


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
