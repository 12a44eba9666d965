"""The mirror of the results in MLflow. Files are the truth; losing the mirror loses nothing.

The rule: **an experiment of MLflow shows the current study, each run once.**

- A run has a key (`cell/1000/synthetic_affine/0.5/0`) and the hash of all that is logged in it. A run with
  the same key and hash is kept as it is: tracking twice changes nothing.
- Another hash under the same key makes a new run, and the superseded one is deleted. So are the runs of cells
  that the parameters no longer declare. MLflow deletes softly: such runs can be looked at and restored.
- One parent run stands for the state of the whole pipeline; GANs and cells are its children, the summary of a
  budget stands beside it. A new state makes a new parent that adopts the children that stay as they are; the
  old parent is deleted. To keep a state beside the next one, first give `tracking.experiment` another name.
- The runs of a killed `track` never end. The next `track` closes them as KILLED, deletes and redoes them.
- Runs that this checkout did not make are never touched, and an experiment (of a server) that mirrors another
  checkout is refused: two studies in one table would be averaged together.
"""

from __future__ import annotations

import json
import platform
import posixpath
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException

from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.machine_paths import yaml_without_machine_paths
from pipeline.runtime.commit import git
from pipeline.runtime.progress import Advance, progress
from pipeline.tracking.connection import (
    all_pages,
    check_store,
    client_of,
    make_database,
    working_with,
    writing_to,
)
from pipeline.tracking.planned_runs import Images, PlannedRun
from pipeline.tracking.saved_views import GANS_QUERY, MEANS_QUERY, RATIO_QUERY, TAG_PREFIX, saved_views
from pipeline.tracking.store import Store, is_busy, runs_page

_MAX_METRICS, _MAX_PARAMS = 1000, 100  # per call of log_batch
_MAX_PARAM_LENGTH, _MAX_TAG_LENGTH = 6000, 8000
_GIT_SECONDS = 10

KEY, _CONTENT, WORKSPACE = "synthgain.key", "synthgain.content_sha256", "synthgain.workspace"
_PARENT, _NOTE = "mlflow.parentRunId", "mlflow.note.content"
_NOTE_BEGINS = "Mirrored from files by `synthgain stage track`"


@dataclass(frozen=True)
class Mirrored:
    """How many runs were made, stayed and went, and the experiment that holds them."""

    created: int
    kept: int
    removed: int
    experiment_id: str


@dataclass(frozen=True)
class Difference:
    """What a study and the runs of an experiment differ in.

    Attributes:
        kept: runs that stay as they are, by the key of what they show.
        missing: what no run shows, with its hash.
        unfinished: runs of a `track` that was killed.
        superseded: finished runs of other results, or of what is declared no more.
    """

    kept: Mapping[str, Run]
    missing: Sequence[tuple[PlannedRun, str]]
    unfinished: Sequence[Run]
    superseded: Sequence[Run]


def difference(runs: Sequence[PlannedRun], shown: Sequence[Run]) -> Difference:
    """What `mirror` has to do: a plan, before anything is written."""
    contents = {planned.key: planned.content_sha256() for planned in runs}
    finished = [run for run in shown if run.info.status == "FINISHED"]
    kept = {
        run.data.tags[KEY]: run
        for run in finished
        if contents.get(run.data.tags[KEY]) == run.data.tags[_CONTENT]
    }
    staying = {run.info.run_id for run in kept.values()}
    return Difference(
        kept=kept,
        missing=[(planned, contents[planned.key]) for planned in runs if planned.key not in kept],
        unfinished=[run for run in shown if run.info.status != "FINISHED"],
        superseded=[run for run in finished if run.info.run_id not in staying],
    )


def mirror(runs: Sequence[PlannedRun], *, experiment: str, store: Store, root: Path) -> Mirrored:
    """Make an experiment show exactly these runs of this checkout; the first is the parent of the others.

    Args:
        runs: what `pipeline.tracking.planned_runs.plan_runs` gives.
        experiment: the name; made if there is none, brought back if it was deleted.
        store: what `find_store` gives.
        root: the root of the checkout: the parent names its Git commit and its `dvc.lock`.

    Raises:
        SynthGainError: if the store cannot be reached or used, or the experiment mirrors another checkout.
    """
    with writing_to(store):
        if store.database is not None and not store.database.exists():
            make_database(store.database)
        client = client_of(store)
        shown = _experiment(client, experiment, store)
        experiment_id = shown.experiment_id
        todo = difference(runs, _own_runs(client, experiment_id, experiment, store))
        for run in todo.unfinished:
            client.set_terminated(run.info.run_id, "KILLED")
            client.delete_run(run.info.run_id)
        with progress("mirroring to MLflow", len(todo.missing), "runs") as advance:
            parent_id = _show(client, runs[0], todo, experiment_id, store, root, advance)
        _save_views(client, shown, runs)
        _write_note(client, shown, parent_id, has_ended=any(planned.kind == "cell" for planned in runs))
        for run in todo.superseded:
            client.delete_run(run.info.run_id)
    removed = len(todo.unfinished) + len(todo.superseded)
    return Mirrored(len(todo.missing), len(todo.kept), removed, experiment_id)


def _show(
    client: MlflowClient,
    study: PlannedRun,
    todo: Difference,
    experiment_id: str,
    store: Store,
    root: Path,
    advance: Advance,
) -> str:
    """The parent, which ends last, and the runs that are missing; those that stay move below it. The parent's id."""
    missing = {planned.key: (planned, content) for planned, content in todo.missing}
    parent = todo.kept.get(study.key)
    parent_id = parent.info.run_id if parent else _create(client, experiment_id, *missing[study.key], store)
    _log_origin(client, parent_id, root, parent.data.tags if parent else {})
    for key, (planned, content) in missing.items():
        if key != study.key:
            above = parent_id if planned.is_child else None
            client.set_terminated(_create(client, experiment_id, planned, content, store, above))
            advance(1, planned.name)
    for run in todo.kept.values():
        if run.data.tags.get(_PARENT, parent_id) != parent_id:
            client.set_tag(run.info.run_id, _PARENT, parent_id)
    # Only now: a parent that never ended tells the next mirror that this one was interrupted.
    if parent is None:
        client.set_terminated(parent_id)
        advance(1, study.name)
    return parent_id


@dataclass(frozen=True)
class Comparison:
    """How many of the runs are not those of the results: missing, superfluous or of other content; and of how many."""

    differing: int
    runs: int

    def __str__(self) -> str:
        """In words."""
        if not self.differing:
            return f"all {self.runs} runs are those of data/"
        return f"{self.differing} of {self.runs} runs are not those of data/"


def compare_with_store(runs: Sequence[PlannedRun], *, experiment: str, store: Store) -> Comparison | None:
    """Whether an experiment shows exactly these runs of this checkout; writes nothing.

    Returns:
        None while another process of this machine mirrors to the store.

    Raises:
        SynthGainError: if the store cannot be reached or used, or the experiment mirrors another checkout.
    """
    own: list[Run] = []
    # MLflow would make a missing store, and the tables of an empty one.
    if store.database is None or (store.database.exists() and store.database.stat().st_size):
        with working_with(store):
            if is_busy(store):
                return None
            check_store(store)
            client = client_of(store)
            found = client.get_experiment_by_name(experiment)
            if found is not None and found.lifecycle_stage == "active":
                own = _own_runs(client, found.experiment_id, experiment, store)
    found_difference = difference(runs, own)
    superseded = {run.data.tags[KEY] for run in found_difference.superseded}
    missing = {planned.key for planned, _ in found_difference.missing}
    return Comparison(len(missing | superseded), len({run.key for run in runs} | superseded))


@dataclass(frozen=True)
class LeftRun:
    """A run that was started and never ended.

    Attributes:
        run_id, name, experiment: what MLflow calls it.
        since: when it was started, local time.
        is_ours: whether this checkout made it: the next `mirror` ends it.
    """

    run_id: str
    name: str
    experiment: str
    since: str
    is_ours: bool


def runs_left_running(store: Store) -> list[LeftRun] | None:
    """The runs of all experiments that are RUNNING; None while another process of this machine mirrors to the store.

    Raises:
        SynthGainError: if the store cannot be reached or used.
    """
    with working_with(store):
        if is_busy(store):
            return None
        check_store(store)
        client = client_of(store)
        experiments = {found.experiment_id: found.name for found in client.search_experiments()}
        runs = client.search_runs(list(experiments), "attributes.status = 'RUNNING'", max_results=1000)
        return [
            LeftRun(
                run.info.run_id,
                run.info.run_name,
                experiments[run.info.experiment_id],
                time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.start_time / 1000)),
                run.data.tags.get(WORKSPACE) == store.workspace,
            )
            for run in runs
        ]


def _create(
    client: MlflowClient,
    experiment_id: str,
    planned: PlannedRun,
    content: str,
    store: Store,
    parent_id: str | None = None,
) -> str:
    """A new run with all that it holds; RUNNING until the caller ends it."""
    now = int(1000 * time.time())
    tags = {
        **planned.tags,
        "kind": planned.kind,
        KEY: planned.key,
        _CONTENT: content,
        WORKSPACE: store.workspace,
        "mlflow.source.name": "synthgain stage track",
    }
    if planned.note:
        tags[_NOTE] = planned.note
    if parent_id:
        tags[_PARENT] = parent_id
    tags = {name: value[:_MAX_TAG_LENGTH] for name, value in tags.items()}
    run_id: str = client.create_run(experiment_id, now, tags, planned.name).info.run_id
    params = [Param(name, value[:_MAX_PARAM_LENGTH]) for name, value in planned.params.items()]
    for start in range(0, len(params), _MAX_PARAMS):
        client.log_batch(run_id, params=params[start : start + _MAX_PARAMS], synchronous=True)
    metrics = [Metric(name, value, now, step) for name, value, step in planned.metrics]
    for start in range(0, len(metrics), _MAX_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + _MAX_METRICS], synchronous=True)
    if planned.inputs:
        client.log_inputs(run_id, [_dataset_input(images) for images in planned.inputs])
    for file, folder in planned.artifacts:
        _log_file(client, run_id, file, folder)
    return run_id


def _log_file(client: MlflowClient, run_id: str, file: Path, folder: str = "") -> None:
    """A file as an artifact; parameters and the lock without paths of this machine."""
    if file.suffix in (".yaml", ".lock"):
        text = file.read_text(encoding="utf-8")
        if (shared := yaml_without_machine_paths(text)) != text:
            client.log_text(run_id, shared, posixpath.join(folder, file.name))
            return
    client.log_artifact(run_id, str(file), folder or None)


def _dataset_input(images: Images) -> DatasetInput:
    # The entity itself: `mlflow.data.from_numpy` wants the pixels in memory and hashes them in its own way.
    features = [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, *images.shape]}}]
    dataset = Dataset(
        name=images.name,
        digest=images.digest,
        source_type="local",
        source=json.dumps({"uri": images.source}),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps(features), "targets": None}}),
        profile=json.dumps({"num_rows": images.count}),
    )
    tags = {"mlflow.data.context": images.context, **images.tags}
    return DatasetInput(dataset, [InputTag(name, value) for name, value in tags.items()])


def _log_origin(client: MlflowClient, run_id: str, root: Path, known: Mapping[str, str]) -> None:
    """Versions, Git commit and `dvc.lock` of the last mirroring, where they are others than the known tags say.

    No part of the content: a commit made after `dvc repro` changes no result, and must make no new run.
    """
    origin = {"python": platform.python_version(), **{name: version(name) for name in ("torch", "mlflow")}}
    origin |= _git_state(root)
    lock = root / "dvc.lock"
    if lock.is_file():
        origin["dvc.lock_sha256"] = file_sha256(lock)
        if (
            known.get("dvc.lock_sha256") != origin["dvc.lock_sha256"]
        ):  # before its tag: a kill in between costs nothing
            _log_file(client, run_id, lock)
    tags = [RunTag(name, value) for name, value in origin.items() if known.get(name) != value]
    if tags:
        client.log_batch(run_id, tags=tags, synchronous=True)


def _git_state(root: Path) -> dict[str, str]:
    commit = git(root, "rev-parse", "HEAD", seconds=_GIT_SECONDS)
    changed = git(root, "status", "--porcelain", "--untracked-files=no", seconds=_GIT_SECONDS)
    if commit is None or changed is None:  # no Git, no repository, no commit yet
        return {}
    return {"mlflow.source.git.commit": commit, "git.dirty": str(changed != "").lower()}


def _experiment(client: MlflowClient, name: str, store: Store) -> Experiment:
    """The experiment of this name, made or brought back if need be."""
    location = None if store.artifacts is None else store.artifacts.as_uri()
    if client.get_experiment_by_name(name) is None:
        try:
            client.create_experiment(name, artifact_location=location)
        except MlflowException as error:  # on a server, somebody else may have been quicker
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None, "made a moment ago"
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    if store.workspace == "local" and experiment.artifact_location != location:
        raise SynthGainError(
            f"{store.database}: made while this folder was another one, so artifacts would go to"
            f" {experiment.artifact_location}; remove the file, it is mirrored again as a whole"
        )
    return experiment


def _save_views(client: MlflowClient, experiment: Experiment, runs: Sequence[PlannedRun]) -> None:
    """Offer the views of this study, and leave alone those that are there already."""
    metric = next(
        (run.params.get("study.metric", "accuracy") for run in runs if run.kind == "study"), "accuracy"
    )
    for view in saved_views([planned.params for planned in runs if planned.kind == "cell"], metric):
        state = view.encoded_state()
        if state not in experiment.tags.get(TAG_PREFIX + view.key, ""):
            now = int(1000 * time.time())
            value = {"name": view.name, "createdAt": now, "updatedAt": now, "state": state}
            client.set_experiment_tag(experiment.experiment_id, TAG_PREFIX + view.key, json.dumps(value))


def _write_note(client: MlflowClient, experiment: Experiment, parent_id: str, *, has_ended: bool) -> None:
    """The experiment's description, with links of the user interface itself; what somebody else wrote there stays."""
    number = experiment.experiment_id
    study = f"/#/experiments/{number}/runs/{parent_id}"
    links = {"GANs": runs_page(number, GANS_QUERY), "study": study}
    if has_ended:
        links |= {
            "table by arm and ratio": runs_page(number, MEANS_QUERY),
            "chart against ratio": runs_page(number, RATIO_QUERY),
            "report (index.html)": f"{study}/artifacts",
        }
    # In its first line: MLflow folds the rest.
    line = " · ".join(f"[{words}]({page[1:]})" for words, page in links.items())
    note = f"{_NOTE_BEGINS}: {line}\n\nHow to read it: `docs/mlflow.md` and `docs/numbers.md` of the project."
    found = experiment.tags.get(_NOTE)
    if (found is None or found.startswith(_NOTE_BEGINS)) and found != note:
        client.set_experiment_tag(number, _NOTE, note)


def _own_runs(client: MlflowClient, experiment_id: str, experiment: str, store: Store) -> list[Run]:
    """The runs that this checkout made and nobody deleted, in whatever state."""
    found = all_pages(lambda token: client.search_runs([experiment_id], max_results=1000, page_token=token))
    runs = [run for run in found if WORKSPACE in run.data.tags]
    if foreign := sorted({run.data.tags[WORKSPACE] for run in runs} - {store.workspace}):
        raise SynthGainError(
            f"MLflow at {store}: experiment {experiment} mirrors {foreign[0]}, and this is {store.workspace};"
            " give tracking.experiment in params.yaml a name of its own, or, if the study is the same, take"
            f" it over with the environment variable SYNTHGAIN_WORKSPACE={shlex.quote(foreign[0])}"
        )
    return runs
