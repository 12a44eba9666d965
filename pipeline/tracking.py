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
- A generator is logged as a model once. The next `track` takes what a killed one has finished, and deletes the rest.
- Runs that this checkout did not make are never touched, and an experiment (of a server) that mirrors another
  checkout is refused: two studies in one table would be averaged together.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shlex
import shutil
import sqlite3
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

# MLflow reads some of these while it is imported, so they come before. With its own 7 retries of 120 s, a
# server that is down looks like a hang of minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # no Git on this machine is no news
# Two lines per run that ends on a server. `track` prints one link for all of them.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # the project has its own

import mlflow
import numpy as np
import requests
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    LoggedModel,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from pipeline.champion import Candidate, Holder, decide
from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.progress import progress
from pipeline.redaction import without_secrets
from pipeline.runs import Images, PlannedRun
from pipeline.runtime import atomic_output
from pipeline.store import Store, alone, is_busy, sqlite_uri
from pipeline.store import find_store as find_store
from pipeline.views import TAG_PREFIX, saved_views

logging.getLogger("alembic").setLevel(logging.WARNING)
# It logs a traceback of each database error that it raises as well; ours is one line (`_explained`).
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

_PROBE_SECONDS = 3.0
_LOCKED_SECONDS = 20.0
_MAX_METRICS, _MAX_PARAMS = 1000, 100  # per call of log_batch
_MAX_PARAM_LENGTH, _MAX_TAG_LENGTH = 6000, 8000

CHAMPION = "champion"
_WEIGHTS = "generator.safetensors"
_ROOT = Path(__file__).resolve().parents[1]
# What a registered generator takes along: all that sampling imports (tests/test_registry.py holds it to that).
_SERVED = (
    *(
        f"pipeline/{name}.py"
        for name in ("__init__", "checkpoints", "errors", "images", "progress", "runtime")
    ),
    *(f"pipeline/gan/{name}.py" for name in ("__init__", "generators", "networks", "sampling")),
)
_REQUIRED = ("mlflow", "numpy", "pandas", "safetensors", "scipy", "torch")

_KEY, _CONTENT, _WORKSPACE = "synthgain.key", "synthgain.content_sha256", "synthgain.workspace"
_PARENT, _NOTE = "mlflow.parentRunId", "mlflow.note.content"
_GENERATOR, _DECISION = "generator_sha256", "champion_decision"

# What MLflow says of a run or model that somebody else has deleted.
_VANISHED = r"must be in the 'active' state|Run with id=\S+ not found|Logged model with ID \S+ not found"
_LATER = "Nothing else is lost: all results are files, and `dvc repro` (or `synthgain stage track`) mirrors them later"


@dataclass(frozen=True)
class Mirrored:
    """How many runs were made, stayed and went, and the experiment that holds them."""

    created: int
    kept: int
    removed: int
    experiment_id: str


@contextmanager
def writing_to(store: Store) -> Iterator[None]:
    """Be the only process of this machine that writes to a store; what goes wrong with it is one line.

    `mirror` and `register_generator` do this themselves. Around both, nobody else gets in between.

    Raises:
        SynthGainError: if the store cannot be reached or used.
    """
    with _working_with(store), alone(store):
        _check(store)
        yield


@contextmanager
def _working_with(store: Store) -> Iterator[None]:
    with warnings.catch_warnings(), _default_store(store), _explained(store):
        # MLflow's parts warn of each other, and of its own tables.
        warnings.simplefilter("ignore")
        yield


def _client(store: Store) -> MlflowClient:
    return MlflowClient(store.uri, registry_uri=store.uri)


def mirror(runs: Sequence[PlannedRun], *, experiment: str, store: Store, root: Path) -> Mirrored:
    """Make an experiment show exactly these runs of this checkout; the first is the parent of the others.

    Args:
        runs: what `pipeline.runs.plan_runs` gives.
        experiment: the name; made if there is none, brought back if it was deleted.
        store: what `find_store` gives.
        root: the root of the checkout: the parent names its Git commit and its `dvc.lock`.

    Raises:
        SynthGainError: if the store cannot be reached or used, or the experiment mirrors another checkout.
    """
    wanted = [(planned, planned.content_sha256()) for planned in runs]
    with writing_to(store):
        if store.database is not None and not store.database.exists():
            _make_database(store.database)
        client = _client(store)
        shown = _experiment(client, experiment, store)
        experiment_id = shown.experiment_id
        own = _own_runs(client, experiment_id, experiment, store)
        finished = {
            (run.data.tags[_KEY], run.data.tags[_CONTENT]): run
            for run in own
            if run.info.status == "FINISHED"
        }
        kept = {
            key: run for key, run in finished.items() if key in {(p.key, content) for p, content in wanted}
        }
        for run in own:
            if run.info.status != "FINISHED":
                client.set_terminated(run.info.run_id, "KILLED")
                client.delete_run(run.info.run_id)

        study, study_content = wanted[0]
        with progress("mirroring to MLflow", len(wanted) - len(kept), "runs") as advance:
            parent = kept.get((study.key, study_content))
            parent_id = (
                parent.info.run_id if parent else _create(client, experiment_id, study, study_content, store)
            )
            _log_origin(client, parent_id, root, parent.data.tags if parent else {})
            for planned, content in wanted[1:]:
                found = kept.get((planned.key, content))
                if found is None:
                    above = parent_id if planned.is_child else None
                    run_id = _create(client, experiment_id, planned, content, store, above)
                    client.set_terminated(run_id)
                    advance(1, planned.name)
                elif planned.is_child and found.data.tags.get(_PARENT) != parent_id:
                    client.set_tag(found.info.run_id, _PARENT, parent_id)
            # Only now: a parent that never ended tells the next mirror that this one was interrupted.
            if not parent:
                client.set_terminated(parent_id)
                advance(1, study.name)

        _save_views(client, shown, runs)
        staying = {run.info.run_id for run in kept.values()}
        for run in own:
            if run.info.status == "FINISHED" and run.info.run_id not in staying:
                client.delete_run(run.info.run_id)
    return Mirrored(len(wanted) - len(kept), len(kept), len(own) - len(kept), experiment_id)


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
        with _working_with(store):
            if is_busy(store):
                return None
            _check(store)
            client = _client(store)
            found = client.get_experiment_by_name(experiment)
            if found is not None and found.lifecycle_stage == "active":
                own = _own_runs(client, found.experiment_id, experiment, store)
    shown: dict[str, list[str]] = {}
    for run in own:
        if run.info.status == "FINISHED":
            shown.setdefault(run.data.tags[_KEY], []).append(run.data.tags[_CONTENT])
    wanted = {planned.key: [planned.content_sha256()] for planned in runs}
    keys = wanted.keys() | shown.keys()
    return Comparison(sum(wanted.get(key) != shown.get(key) for key in keys), len(keys))


def register_generator(
    candidate: Candidate, *, name: str, run_key: str, experiment_id: str, store: Store
) -> str:
    """Register a generator as a version of the model `name`; move the alias `champion` if it is better.

    The model is of MLflow's pyfunc kind: rows of (label, count) and a seed give images. A generator that is
    registered already, with the same score, makes no new version, and nothing is written then.

    Args:
        candidate: the generator and its score.
        name: of the registered model.
        run_key: the key of the GAN's run in the experiment, which the model belongs to.
        experiment_id: of the mirrored study.
        store: what `find_store` gives.

    Returns:
        A sentence on which version it is, and what became of the alias and why.

    Raises:
        SynthGainError: if the store cannot be reached or used.
    """
    with writing_to(store):
        client = _client(store)
        tags = {
            _GENERATOR: candidate.generator_sha256,
            "validation_cas": repr(candidate.cas),
            "protocol": candidate.protocol,
            "budget": candidate.budget,
            "replicate": str(candidate.replicate),
            "synthetic_per_real": f"{candidate.synthetic_per_real:g}",
        }
        logged = _own_generator(client, candidate.generator_sha256, experiment_id, store)
        known = _versions(client, name)
        same = [each for each in known if all(each.tags.get(tag) == value for tag, value in tags.items())]
        version = max(same, key=lambda each: int(each.version), default=None)
        if version is None:
            if not known:
                with suppress(MlflowException):  # there already, without a version
                    client.create_registered_model(name)
            model_id = logged or _log_generator(client, candidate, run_key, experiment_id, store)
            # A server takes such a source only with the model's id beside it.
            version = client.create_model_version(name, f"models:/{model_id}", tags=tags, model_id=model_id)
        number = str(version.version)
        holder = _holder(client, name)
        moved, reason = decide(candidate, holder)
        # The reason why it is or is not the champion. Of the one that is, it was written when it became that.
        written = version.tags.get(_DECISION)
        if written != reason and not (written and holder and holder.version == number):
            client.set_model_version_tag(name, number, _DECISION, reason)
        if moved:  # last: killed before it, the next `track` decides again
            client.set_registered_model_alias(name, CHAMPION, number)
    became = f"alias {CHAMPION} moved to it" if moved else f"alias {CHAMPION} stays"
    return f"{name} version {number}: {became}: {reason}"


def fetch_generator(uri: str, store: Store) -> Path:
    """The file of a registered generator: `models:/synthgain-mnist@champion`, or `models:/<name>/<version>`.

    Raises:
        SynthGainError: if the store cannot be reached, has no such model, or it is not one of ours.
    """
    found = re.fullmatch(r"models:/([^@/]+)(?:@([^/@]+)|/(\d+))", uri)
    if not found:
        raise SynthGainError(f"{uri}: models:/NAME@ALIAS or models:/NAME/VERSION is needed")
    if store.database is not None and not store.database.is_file():  # MLflow would make an empty one
        raise SynthGainError(
            f"{uri}: no MLflow store at {store}; run this in the study's folder, or set MLFLOW_TRACKING_URI"
        )
    # A file is not read while its tables are made; a server sees to that itself.
    with _working_with(store), alone(store) if store.database is not None else nullcontext():
        _check(store)
        client = _client(store)
        try:
            if found[2]:
                version_found = client.get_model_version_by_alias(found[1], found[2])
            else:
                version_found = client.get_model_version(found[1], found[3])
        except MlflowException as error:
            raise SynthGainError(f"{uri}: not in MLflow at {store} ({_reason(error)})") from None
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{found[1]}/{version_found.version}"))
    path = folder / "artifacts" / _WEIGHTS
    if not path.is_file():
        raise SynthGainError(f"{uri}: not a generator of SynthGain (no artifacts/{_WEIGHTS} in it)")
    return path


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
    with _working_with(store):
        if is_busy(store):
            return None
        _check(store)
        client = _client(store)
        experiments = {each.experiment_id: each.name for each in client.search_experiments()}
        runs = client.search_runs(list(experiments), "attributes.status = 'RUNNING'", max_results=1000)
        return [
            LeftRun(
                run.info.run_id,
                run.info.run_name,
                experiments[run.info.experiment_id],
                time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.start_time / 1000)),
                run.data.tags.get(_WORKSPACE) == store.workspace,
            )
            for run in runs
        ]


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    quoted = name.replace("'", "")
    return list(client.search_model_versions(f"name = '{quoted}'", max_results=1000))


def _holder(client: MlflowClient, name: str) -> Holder | None:
    """The champion so far."""
    try:
        champion = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        # No such model, or none with this alias. A server in trouble is no reason for a new champion.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    tags = champion.tags
    try:
        return Holder(
            str(champion.version), tags["generator_sha256"], float(tags["validation_cas"]), tags["protocol"]
        )
    except (KeyError, ValueError):
        raise SynthGainError(
            f"{name}@{CHAMPION}: version {champion.version} was not made here (it has no score); take the alias"
            " away, or give tracking.experiment another name"
        ) from None


def _own_generator(client: MlflowClient, sha256: str, experiment_id: str, store: Store) -> str | None:
    """The id of this checkout's logged model of a generator, if there is one; what killed tries began is deleted."""
    own: list[LoggedModel] = []
    token = None
    while True:
        page = client.search_logged_models([experiment_id], page_token=token)
        own += [model for model in page if model.tags.get(_WORKSPACE) == store.workspace]
        token = page.token
        if not token:
            break
    for model in own:
        if model.status != LoggedModelStatus.READY:  # nobody is at work on it: we are alone
            client.delete_logged_model(model.model_id)
    ready = [
        model
        for model in own
        if model.status == LoggedModelStatus.READY and model.tags.get(_GENERATOR) == sha256
    ]
    return str(ready[0].model_id) if ready else None


def _log_generator(
    client: MlflowClient, candidate: Candidate, run_key: str, experiment_id: str, store: Store
) -> str:
    """Log the pyfunc model into the GAN's run; its id. It is PENDING until all of it is there."""
    runs = client.search_runs([experiment_id], f"tags.`{_KEY}` = '{run_key}'")
    if not runs:
        raise SynthGainError(f"MLflow at {store}: no run {run_key}; `synthgain stage track` makes it")
    run = runs[0]
    signature = ModelSignature(
        inputs=Schema([ColSpec("long", "label"), ColSpec("long", "count")]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
        params=ParamSchema([ParamSpec("seed", "long", 0)]),
    )
    model = client.create_logged_model(
        experiment_id,
        name="generator",
        source_run_id=run.info.run_id,
        tags={_GENERATOR: candidate.generator_sha256, _WORKSPACE: store.workspace},
        params=run.data.params,
    )
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / _WEIGHTS
        shutil.copyfile(candidate.generator, weights)
        for file in _SERVED:
            (Path(temporary) / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_ROOT / file, Path(temporary) / file)
        # What `mlflow.pyfunc.log_model` calls. That one wants an active run, and takes a finished one up again.
        Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            run_id=run.info.run_id,
            model_id=model.model_id,
            python_model=str(_ROOT / "pipeline" / "registered_model.py"),
            code_paths=[str(Path(temporary) / "pipeline")],
            artifacts={"generator": str(weights)},
            signature=signature,
            pip_requirements=[f"{package}=={_release(package)}" for package in _REQUIRED],
            metadata={"synthetic": True, _GENERATOR: candidate.generator_sha256},
        )
    return str(model.model_id)


@contextmanager
def _default_store(store: Store) -> Iterator[None]:
    """Give MLflow the store, and the user and password of its address, as long as it works.

    Some of its functions take no client and read the environment. There the address has no password; user and
    password in MLflow's own variables are those of the address, which win, or else the reader's.
    """
    names = (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
    )
    before = {name: os.environ.get(name) for name in names}
    try:
        mlflow.set_tracking_uri(store.uri)
        mlflow.set_registry_uri(store.uri)
        if store.user is not None and store.password is not None:
            os.environ["MLFLOW_TRACKING_USERNAME"] = store.user
            os.environ["MLFLOW_TRACKING_PASSWORD"] = store.password
        yield
    finally:
        mlflow.set_tracking_uri(before["MLFLOW_TRACKING_URI"])  # type: ignore[arg-type]  # None takes it back
        mlflow.set_registry_uri("")
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _release(package: str) -> str:
    """The version without the build (`2.14.1+cu130`), which no index has."""
    return version(package).partition("+")[0]


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
        _KEY: planned.key,
        _CONTENT: content,
        _WORKSPACE: store.workspace,
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
        client.log_artifact(run_id, str(file), folder or None)
    return run_id


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
            client.log_artifact(run_id, str(lock))
    tags = [RunTag(name, value) for name, value in origin.items() if known.get(name) != value]
    if tags:
        client.log_batch(run_id, tags=tags, synchronous=True)


def _git_state(root: Path) -> dict[str, str]:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {
            "mlflow.source.git.commit": git("rev-parse", "HEAD"),
            "git.dirty": str(git("status", "--porcelain", "--untracked-files=no") != "").lower(),
        }
    except (OSError, subprocess.SubprocessError):  # no Git, no repository, no commit yet
        return {}


def _experiment(client: MlflowClient, name: str, store: Store) -> Experiment:
    """The experiment of this name, made or brought back if need be."""
    location = None if store.artifacts is None else store.artifacts.as_uri()
    if client.get_experiment_by_name(name) is None:
        tags = {
            _NOTE: "Mirrored from files by `synthgain stage track`. The menu *Views* has means by arm and ratio,"
            " accuracy against ratio (the step of a summary is the ratio in percent), curves of the GANs.",
        }
        try:
            client.create_experiment(name, artifact_location=location, tags=tags)
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
    for view in saved_views([planned.params for planned in runs if planned.kind == "cell"]):
        state = view.encoded_state()
        if state not in experiment.tags.get(TAG_PREFIX + view.key, ""):
            now = int(1000 * time.time())
            value = {"name": view.name, "createdAt": now, "updatedAt": now, "state": state}
            client.set_experiment_tag(experiment.experiment_id, TAG_PREFIX + view.key, json.dumps(value))


def _own_runs(client: MlflowClient, experiment_id: str, experiment: str, store: Store) -> list[Run]:
    """The runs that this checkout made and nobody deleted, in whatever state."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token)
        runs += [run for run in page if _WORKSPACE in run.data.tags]
        token = page.token
        if not token:
            break
    if foreign := sorted({run.data.tags[_WORKSPACE] for run in runs} - {store.workspace}):
        raise SynthGainError(
            f"MLflow at {store}: experiment {experiment} mirrors {foreign[0]}, and this is {store.workspace};"
            " give tracking.experiment in params.yaml a name of its own, or, if the study is the same, take"
            f" it over with the environment variable SYNTHGAIN_WORKSPACE={shlex.quote(foreign[0])}"
        )
    return runs


def _check(store: Store) -> None:
    """Find trouble within seconds, before MLflow tries again for minutes.

    Raises:
        SynthGainError: in one line.
    """
    if store.database is None:
        _check_server(store)
    elif store.database.exists():
        _check_database(store.database)


def _check_server(store: Store) -> None:
    try:
        answer = http_request(  # MLflow's own, for its credentials and certificates
            get_default_host_creds(store.uri),  # type: ignore[no-untyped-call]
            "/health",
            "GET",
            timeout=_PROBE_SECONDS,
            max_retries=0,
            raise_on_status=False,
        )
    except (MlflowException, requests.RequestException) as error:
        raise SynthGainError(
            f"MLflow server {store} (MLFLOW_TRACKING_URI): {_reason(error)}. {_LATER}"
        ) from None
    if answer.status_code >= 500:  # others may stand for a proxy, or a path that it does not know
        raise SynthGainError(
            f"MLflow server {store}: /health has status {answer.status_code} (MLFLOW_TRACKING_URI). {_LATER}"
        )


def _make_database(database: Path) -> None:
    """A store without runs, whole or not at all: killed in the fifty steps that MLflow takes, it would be of no use."""
    with atomic_output(database) as temporary:
        made = SqlAlchemyStore(sqlite_uri(temporary), DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)  # type: ignore[no-untyped-call]
        made.engine.dispose()


def _check_database(database: Path) -> None:
    try:
        with closing(sqlite3.connect(database, timeout=_LOCKED_SECONDS, isolation_level=None)) as connection:
            master = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            tables = [name for (name,) in master]
            if any(name.startswith("_alembic_tmp_") for name in tables):
                raise SynthGainError(
                    f"{database}: MLflow was killed while it made or upgraded this store; remove the file if only"
                    f" this project's runs were in it, else bring back a copy. {_LATER}"
                )
            if tables and "alembic_version" not in tables:
                raise SynthGainError(
                    f"{database}: an SQLite file, but no MLflow store (its tables: {', '.join(tables[:5])});"
                    " name another file in MLFLOW_TRACKING_URI"
                )
            if tables:
                for (revision,) in connection.execute("SELECT version_num FROM alembic_version"):
                    _check_not_newer(revision, str(database))
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise SynthGainError(f"{database}: cannot be used as an MLflow store ({error}). {_LATER}") from None


def _check_not_newer(revision: str, store: str) -> None:
    """Whether this MLflow knows the schema of a store: each of its migrations is a file named after one."""
    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if not any(migrations.glob(f"{revision}_*.py")):
        raise SynthGainError(
            f"{store}: made by a newer MLflow than the {mlflow.__version__} here (schema {revision});"
            f" install that one, or name another store in MLFLOW_TRACKING_URI. {_LATER}"
        )


@contextmanager
def _explained(store: Store) -> Iterator[None]:
    """What goes wrong with the store, in one line."""
    try:
        yield
    except (MlflowException, requests.RequestException, SQLAlchemyError, OSError) as error:
        if outdated := re.search(r"found version (\w+), but expected", str(error)):
            _check_not_newer(outdated[1], str(store))
            raise SynthGainError(
                f"{store}: made by an older MLflow than the {mlflow.__version__} here; copy it and run"
                f" `mlflow db upgrade {shlex.quote(str(store))}`. {_LATER}"
            ) from None
        if re.search(_VANISHED, str(error)):
            raise SynthGainError(
                f"MLflow at {store}: a run or model went while it was written: another machine mirrors the same"
                " workspace (SYNTHGAIN_WORKSPACE); run `synthgain stage track` again when that one is done"
            ) from None
        raise SynthGainError(f"MLflow at {store}: {_reason(error)}. {_LATER}") from None


def _reason(error: Exception) -> str:
    text = without_secrets(" ".join(str(error).split()).partition(" [SQL:")[0])
    for reason, pattern in (
        ("connection refused", "refused"),
        ("no such host", "failed to resolve|getaddrinfo|name or service not known"),
        ("no answer in time", "timed out|timeout"),
        (
            "user, password or token is not accepted (status 401); they are in MLFLOW_TRACKING_URI, or in"
            " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or in MLFLOW_TRACKING_TOKEN",
            "error code 401|401 client error",
        ),
    ):
        if re.search(pattern, text, re.IGNORECASE):
            return reason
    return text[:300]
