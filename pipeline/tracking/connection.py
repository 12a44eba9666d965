"""Talking to MLflow: one process at a time, trouble found within seconds, and said in one line."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import SynthGainError
from pipeline.redaction import without_secrets
from pipeline.runtime.outputs import atomic_output
from pipeline.tracking.deadline import SECONDS, NoAnswer, deadline_of_answers
from pipeline.tracking.store import Store, alone, sqlite_uri

Found = TypeVar("Found")

logging.getLogger("alembic").setLevel(logging.WARNING)
# It logs a traceback of each database error that it raises as well; ours is one line (`_explained`).
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

_PROBE_SECONDS = 3.0
_LOCKED_SECONDS = 20.0

# What MLflow says of a run or model that somebody else has deleted.
_VANISHED = r"must be in the 'active' state|Run with id=\S+ not found|Logged model with ID \S+ not found"
_LATER = "Nothing else is lost: all results are files, and `dvc repro` (or `synthgain stage track`) mirrors them later"


@contextmanager
def writing_to(store: Store) -> Iterator[None]:
    """Be the only process of this machine that writes to a store; what goes wrong with it is one line.

    `mirror` and `register_generator` do this themselves. Around both, nobody else gets in between.

    Raises:
        SynthGainError: if the store cannot be reached or used.
    """
    with working_with(store), alone(store):
        check_store(store)
        yield


@contextmanager
def working_with(store: Store) -> Iterator[None]:
    """MLflow's default store is this one in the block; what goes wrong with it is one line."""
    with warnings.catch_warnings(), default_store(store), _explained(store), deadline_of_answers():
        # MLflow's parts warn of each other, and of its own tables.
        warnings.simplefilter("ignore")
        yield


def client_of(store: Store) -> MlflowClient:
    """For runs and models alike."""
    return MlflowClient(store.uri, registry_uri=store.uri)


def all_pages(search: Callable[[str | None], PagedList[Found]]) -> Iterator[Found]:
    """What a search of MLflow finds, page after page.

    Args:
        search: gives the page of a token, the first one for None.
    """
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


@contextmanager
def default_store(store: Store) -> Iterator[None]:
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


def check_store(store: Store) -> None:
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
    except (MlflowException, requests.RequestException, NoAnswer) as error:
        raise SynthGainError(
            f"MLflow server {store} (MLFLOW_TRACKING_URI): {reason_of(error)}. {_LATER}"
        ) from None
    if (
        answer.status_code >= 500 or answer.status_code == 429
    ):  # others may stand for a proxy, or a path that it does not know
        raise SynthGainError(
            f"MLflow server {store}: /health has status {answer.status_code} (MLFLOW_TRACKING_URI). {_LATER}"
        )


def make_database(database: Path) -> None:
    """A store without runs, whole or not at all: killed in the fifty steps that MLflow takes, it would be of no use."""
    with atomic_output(database) as temporary, _without_waiting_for_the_disk():
        made = SqlAlchemyStore(sqlite_uri(temporary), DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)  # type: ignore[no-untyped-call]
        made.engine.dispose()


@contextmanager
def _without_waiting_for_the_disk() -> Iterator[None]:
    """SQLite does not wait for the disk in the block: for a file that is of no use before it is finished.

    Each of MLflow's steps is a transaction or several, and each would wait: 4 s of 6 on a slow disk.
    """

    def on_connect(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", on_connect)
    try:
        yield
    finally:
        event.remove(Engine, "connect", on_connect)


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
    except (MlflowException, requests.RequestException, SQLAlchemyError, OSError, NoAnswer) as error:
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
        raise SynthGainError(f"MLflow at {store}: {reason_of(error)}. {_LATER}") from None


def reason_of(error: Exception) -> str:
    """An error of MLflow, or on the way to it, in few words and without secrets."""
    text = without_secrets(" ".join(str(error).split()).partition(" [SQL:")[0])
    for reason, pattern in (
        ("connection refused", "refused"),
        ("no such host", "failed to resolve|getaddrinfo|name or service not known"),
        (f"no whole answer within {SECONDS:g} seconds", "no whole answer"),
        ("it has too many requests and asks to try again later (status 429)", "too many 429|error code 429"),
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
