"""The runs of a study that has not ended, planned from the files that are there: a long one can be watched."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.params import Params
from pipeline.results import ReplicateResults, ResultFolders, read_generative, read_history
from pipeline.runtime.progress import counted
from pipeline.study.subsets import Budget, replicate_index
from pipeline.study.trained_gans import load_trained_gans
from pipeline.tracking.planned_runs import (
    Images,
    PlannedRun,
    flat_params,
    gan_run,
    real_and_synthetic,
    training_curves,
)


def plan_unfinished_runs(params: Params, folders: ResultFolders, *, params_file: Path) -> list[PlannedRun]:
    """A parent that says how far the study is, and a run for each GAN of a budget whose GANs are all trained.

    A GAN has its curves and its film strip; once its images are measured, also their metrics. Classifiers follow when
    the study has ended: their table is written at its end.

    Args:
        params: the parameters.
        folders: where the results lie; any file may be missing.
        params_file: the file the parameters come from.

    Raises:
        SynthGainError: if there is no GAN to show yet, or a file is damaged.
    """
    gans, done = [], 0
    for budget in params.study.real_images:
        found = _gans(params, budget, folders)
        done += bool(found)
        gans += found
    if not gans:
        raise SynthGainError(
            f"{folders.metrics / 'comparison.json'}: no such file, and no budget's GANs are trained yet: there is"
            " nothing to show; `dvc repro` makes both"
        )
    budgets = len(params.study.real_images)
    progress = f"not finished: the GANs of {done} of {counted(budgets, 'budget')} are trained"
    study = PlannedRun(
        kind="study",
        key="study",
        name=f"study · {params.data.source} · not finished",
        params=flat_params(params),
        tags={"verdict": progress},
        note=f"{progress[0].upper()}{progress[1:]}. `synthgain stage track` shows what there is by then; `dvc repro`"
        " ends with all of it.",
        artifacts=[(params_file, "")],
    )
    return [study, *gans]


def _gans(params: Params, budget: Budget, folders: ResultFolders) -> list[PlannedRun]:
    metrics = folders.metrics
    history_file, collapsed = metrics / f"gan/{budget}.csv", metrics / f"collapsed/{budget}.json"
    if params.generator.kind != "gan" or not history_file.is_file() or not collapsed.is_file():
        return []
    numbers = load_trained_gans(collapsed).remaining(params.study.replicates)
    history = read_history(history_file, numbers)
    measured = metrics / f"synthetic/{budget}.json"
    scores = read_generative(measured, numbers)["replicates"] if measured.is_file() else {}
    runs = []
    for number in numbers:
        index = replicate_index(number)
        one = ReplicateResults(
            number,
            folders.synthetic / f"{budget}/{index}.npz",
            folders.gan / f"{budget}/{index}/film_strip.png",
            scores.get(str(number), {}),
            history[history["replicate"] == number],
        )
        images = None
        if one.scores and one.synthetic_file.is_file():
            train = folders.prepared / "train.npz"
            real_images = budget if isinstance(budget, int) else len(LabeledImages.load(train))
            images = real_and_synthetic(one, train, params.data.source, real_images)
        runs.append(_run(budget, one, images))
    return runs


def _run(budget: Budget, one: ReplicateResults, images: tuple[Images, Images] | None) -> PlannedRun:
    if images is not None:
        return gan_run(str(budget), one, *images, None)
    strip = one.film_strip_file
    return PlannedRun(
        kind="gan",
        key=f"gan/{budget}/{one.number}",
        name=f"{budget} · gan · replicate {one.number}",
        params={"real_images": str(budget), "replicate": str(one.number)},
        metrics=training_curves(one.history),
        artifacts=[(strip, "")] if strip is not None and strip.is_file() else [],
    )
