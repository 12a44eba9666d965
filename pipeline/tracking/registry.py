"""Generators as versions of a registered model, and the alias `champion` of the best one.

A generator is logged as a model once. The next `track` takes what a killed one has finished, and deletes the rest.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import nullcontext, suppress
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

from pipeline.checkpoints import load_checkpoint
from pipeline.errors import SynthGainError
from pipeline.gan.generators import GENERATOR_KIND, load_generator
from pipeline.runtime.code import ROOT, import_closure
from pipeline.tracking.champion import Candidate, Holder, decide
from pipeline.tracking.connection import (
    all_pages,
    check_store,
    client_of,
    reason_of,
    working_with,
    writing_to,
)
from pipeline.tracking.mirror import KEY, WORKSPACE
from pipeline.tracking.store import Store, alone

CHAMPION = "champion"
_WEIGHTS = "generator.safetensors"
_LONGEST = 5000  # letters of a description, in the tables of MLflow
_REQUIRED = ("mlflow", "numpy", "pandas", "safetensors", "scipy", "torch")
_GENERATOR, _DECISION = "generator_sha256", "champion_decision"


def register_generator(
    candidate: Candidate, *, name: str, run_key: str, experiment_id: str, card: str, store: Store
) -> str:
    """Register a generator as a version of the model `name`; move the alias `champion` if it is better.

    The model is of MLflow's pyfunc kind: rows of (label, count) and a seed give images. A generator that is
    registered already, with the same score, makes no new version, and nothing is written then.

    Args:
        candidate: the generator and its score.
        name: of the registered model.
        run_key: the key of the GAN's run in the experiment, which the model belongs to.
        experiment_id: of the mirrored study.
        card: the generator's card (Markdown): the description of its version.
        store: what `find_store` gives.

    Returns:
        A sentence on which version it is, and what became of the alias and why.

    Raises:
        SynthGainError: if the store cannot be reached or used.
    """
    with writing_to(store):
        client = client_of(store)
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
        same = [
            version for version in known if all(version.tags.get(tag) == value for tag, value in tags.items())
        ]
        version = max(same, key=lambda version: int(version.version), default=None)
        if version is None:
            if not known:
                with suppress(MlflowException):  # there already, without a version
                    client.create_registered_model(name)
            model_id = logged or _log_generator(client, candidate, run_key, experiment_id, store)
            # A server takes such a source only with the model's id beside it.
            version = client.create_model_version(name, f"models:/{model_id}", tags=tags, model_id=model_id)
        number = str(version.version)
        _describe(client, name, version, card)
        holder = _holder(client, name)
        moved, reason = decide(candidate, holder)
        if holder is not None and not moved and holder.generator_sha256 != candidate.generator_sha256:
            unreadable = _why_unreadable(name, holder.version)
            moved, reason = decide(candidate, holder, unreadable=unreadable)
        # The reason why it is or is not the champion. Of the one that is, it was written when it became that.
        written = version.tags.get(_DECISION)
        if written != reason and not (written and holder and holder.version == number):
            client.set_model_version_tag(name, number, _DECISION, reason)
        if moved:  # last: killed before it, the next `track` decides again
            client.set_registered_model_alias(name, CHAMPION, number)
    became = f"alias {CHAMPION} moved to it" if moved else f"alias {CHAMPION} stays"
    return f"{name} version {number}: {became}: {reason}"


def _describe(client: MlflowClient, name: str, version: ModelVersion, card: str) -> None:
    """What the model and its version are, for who finds them in the registry; written where it is another text."""
    about = (
        f"Generators of labelled synthetic images, one version each. The alias `{CHAMPION}` is on the best by"
        f" validation CAS. `synthgain generate --model models:/{name}@{CHAMPION}` draws images."
    )
    model = client.get_registered_model(name)
    if not model.description:  # somebody may have written a better one
        client.update_registered_model(name, about)
    for key, value in {"synthetic": "true", "made_with": "SynthGain"}.items():
        if model.tags.get(key) != value:
            client.set_registered_model_tag(name, key, value)
    text = card if len(card) <= _LONGEST else f"{card[: _LONGEST - 1]}…"
    if (version.description or "") != text:
        client.update_model_version(name, str(version.version), text)


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
    with working_with(store), alone(store) if store.database is not None else nullcontext():
        check_store(store)
        client = client_of(store)
        try:
            if found[2]:
                version_found = client.get_model_version_by_alias(found[1], found[2])
            else:
                version_found = client.get_model_version(found[1], found[3])
        except MlflowException as error:
            raise SynthGainError(f"{uri}: not in MLflow at {store} ({reason_of(error)})") from None
        path = _download(found[1], str(version_found.version))
    if not path.is_file():
        raise SynthGainError(f"{uri}: not a generator of SynthGain (no artifacts/{_WEIGHTS} in it)")
    return path


def unreadable_champion(name: str, store: Store) -> tuple[str, str] | None:
    """The version that holds the alias `champion`, and why the code that is here cannot load it.

    None where it can, or there is no champion. Writes nothing.

    Raises:
        SynthGainError: if the store cannot be reached or used, or the champion was not made here.
    """
    if store.database is not None and not store.database.is_file():  # MLflow would make an empty one
        return None
    with working_with(store):
        check_store(store)
        holder = _holder(client_of(store), name)
        unreadable = None if holder is None else _why_unreadable(name, holder.version)
    return None if holder is None or unreadable is None else (holder.version, unreadable)


def _why_unreadable(name: str, version: str) -> str | None:
    """Why a registered generator cannot be loaded, in a few words; None: it can."""
    path = _download(name, version)
    try:
        load_generator(path, torch.device("cpu"))
    except SynthGainError as error:
        return str(error).removeprefix(f"{path}: ").removesuffix("; train it again")
    return None


def _download(name: str, version: str) -> Path:
    """Where the weights of a registered generator lie on this machine; the file may be missing."""
    return Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}")) / "artifacts" / _WEIGHTS


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
    found = all_pages(lambda token: client.search_logged_models([experiment_id], page_token=token))
    own = [model for model in found if model.tags.get(WORKSPACE) == store.workspace]
    for model in own:
        if model.status != LoggedModelStatus.READY:  # nobody is at work on it: we are alone
            client.delete_logged_model(model.model_id)
    ready = [
        model
        for model in own
        if model.status == LoggedModelStatus.READY and model.tags.get(_GENERATOR) == sha256
    ]
    return str(ready[0].model_id) if ready else None


def _served_files() -> set[str]:
    """What a registered generator takes along: all that sampling is made of, and nothing else of this project."""
    sources = (ROOT / "pipeline/gan" / name for name in ("generators.py", "sampling.py"))
    files = set().union(*(import_closure(source, without=frozenset()) for source in sources))
    packages = {parent for file in files for parent in Path(file).parents if parent.name}
    return files | {f"{package.as_posix()}/__init__.py" for package in packages}


def _log_generator(
    client: MlflowClient, candidate: Candidate, run_key: str, experiment_id: str, store: Store
) -> str:
    """Log the pyfunc model into the GAN's run; its id. It is PENDING until all of it is there."""
    runs = client.search_runs([experiment_id], f"tags.`{KEY}` = '{run_key}'")
    if not runs:
        raise SynthGainError(f"MLflow at {store}: no run {run_key}; `synthgain stage track` makes it")
    run = runs[0]
    _, facts = load_checkpoint(candidate.generator, kind=GENERATOR_KIND)
    colours = (3,) if facts["arguments"].get("image_channels") == 3 else ()
    signature = ModelSignature(
        inputs=Schema([ColSpec("long", "label"), ColSpec("long", "count")]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, *colours))]),
        params=ParamSchema([ParamSpec("seed", "long", 0)]),
    )
    model = client.create_logged_model(
        experiment_id,
        name="generator",
        source_run_id=run.info.run_id,
        tags={_GENERATOR: candidate.generator_sha256, WORKSPACE: store.workspace},
        params=run.data.params,
    )
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / _WEIGHTS
        shutil.copyfile(candidate.generator, weights)
        for file in _served_files():
            (Path(temporary) / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, Path(temporary) / file)
        # What `mlflow.pyfunc.log_model` calls. That one wants an active run, and takes a finished one up again.
        Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            run_id=run.info.run_id,
            model_id=model.model_id,
            python_model=str(ROOT / "pipeline/tracking/served_generator.py"),
            code_paths=[str(Path(temporary) / "pipeline")],
            artifacts={"generator": str(weights)},
            signature=signature,
            pip_requirements=[f"{package}=={_release(package)}" for package in _REQUIRED],
            metadata={"synthetic": True, _GENERATOR: candidate.generator_sha256},
        )
    return str(model.model_id)


def _release(package: str) -> str:
    """The version without the build (`2.14.1+cu130`), which no index has."""
    return version(package).partition("+")[0]
