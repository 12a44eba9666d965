"""Where MLflow keeps the runs: a file of this project, another one, or a server. No MLflow here.

User and password are taken out of a server's address as soon as it is read, so that no text can show them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from pipeline.errors import SynthGainError
from pipeline.redaction import without_secrets
from pipeline.tracking.saved_views import MEANS_QUERY

_VARIABLE = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Store:
    """Where MLflow keeps runs.

    Attributes:
        uri: MLflow's tracking URI, with an absolute path where it has one, without user and password.
        workspace: the checkout whose study is mirrored.
        database: the file of an SQLite store; None for a server.
        artifacts: the folder for the files of the runs; None for a server, which decides for itself.
        user, password: what the address of a server held, decoded; None: it held none.
    """

    uri: str
    workspace: str
    database: Path | None
    artifacts: Path | None
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """The URI."""
        return self.uri


def find_store(environment: Mapping[str, str], root: Path) -> Store:
    """The store that `MLFLOW_TRACKING_URI` names, or `mlflow.db` in the root of the checkout.

    Args:
        environment: MLFLOW_TRACKING_URI, and SYNTHGAIN_WORKSPACE: a lasting name of this checkout, for
            machines whose host name or folder is another one each time (containers, CI).
        root: the root of the checkout.

    Raises:
        SynthGainError: if the URI is of a kind that cannot hold runs; it shows no password.
    """
    root = root.resolve()
    uri = environment.get(_VARIABLE, "").strip()
    if not uri:
        # It lies in the checkout, so all its runs are of this checkout, whatever the folder is called today.
        return _sqlite_store(root / "mlflow.db", "local")
    workspace = environment.get("SYNTHGAIN_WORKSPACE") or f"{socket.gethostname()}:{root}"
    if re.match(r"https?://", uri, re.IGNORECASE):
        address, user, password = _taken_apart(uri)
        return Store(address, workspace, None, None, user, password)
    if re.fullmatch(r"sqlite:///[^?]+", uri):
        return _sqlite_store(root / unquote(uri.removeprefix("sqlite:///")), workspace)
    _refuse(uri)


def trial_name(environment: Mapping[str, str], folder: Path) -> str | None:
    """The name of the DVC experiment whose copy of the workspace a folder is (`dvc exp run --temp`, `--queue`).

    There DVC_ROOT is the workspace that the copy is of. An experiment that runs in place is the workspace's state.
    """
    root = environment.get("DVC_ROOT")
    if not root or folder.resolve() == Path(root).resolve():
        return None
    return environment.get("DVC_EXP_NAME") or None


def _taken_apart(uri: str) -> tuple[str, str | None, str | None]:
    """(address of the server, user, password), user and password decoded."""
    scheme, _, rest = uri.partition("://")
    userinfo, _, host = rest.rpartition("@")
    # Nothing of the address is shown: its parts cannot be told from each other, and one may be a password.
    if re.search(r"[/?#\\]", userinfo):
        raise SynthGainError(
            f"{_VARIABLE}: a user or password in it holds one of / ? # \\; write it percent-encoded (%2F %3F %23"
            " %5C), or set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
        )
    if re.search("[?#]", host):
        raise SynthGainError(
            f"{_VARIABLE}: it has a query or a fragment (what follows ? or #), which cannot be used; allowed is"
            " http(s)://host:port/path, and a token goes into MLFLOW_TRACKING_TOKEN"
        )
    address = f"{scheme.lower()}://{host.rstrip('/')}"
    if not _is_address(address):
        _refuse(uri)
    if not userinfo:
        return address, None, None
    encoded_user, _, encoded_password = userinfo.partition(":")
    user, password = unquote(encoded_user), unquote(encoded_password)
    if not (user + password).isascii() or not (user + password).isprintable():
        # MLflow's server decodes them as ASCII where it takes artifacts: `track` would fail half-way.
        raise SynthGainError(
            f"{_VARIABLE}: a user or password in it holds a sign that is not printable ASCII, which MLflow's server"
            " does not take; a proxy that does gets them from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if not user or not password:
        raise SynthGainError(
            f"{_VARIABLE}: it has a user without a password, or a password without a user; both are needed;"
            " a token goes into MLFLOW_TRACKING_TOKEN"
        )
    return address, user, password


def _is_address(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and parts.port != 0 and not re.search(r"[\s\\]", uri)
    except ValueError:  # an address in brackets that is none, a port that is no number
        return False


def _refuse(uri: str) -> NoReturn:
    scheme, separator, _ = uri.partition("://")
    if re.search(r"[@?#\s]|^[^/:]*:(?!//|\d+(/|$))", uri):  # something in it may be a password
        shown = f"{scheme}://…" if separator and scheme.isalnum() else "…"
    else:
        shown = without_secrets(uri)
    raise SynthGainError(
        f"{_VARIABLE}: found {shown}; allowed are http://host:port, https://host and sqlite:///folder/mlflow.db;"
        " unset it for mlflow.db of this project"
    )


def _sqlite_store(database: Path, workspace: str) -> Store:
    return Store(sqlite_uri(database), workspace, database, database.parent / "mlartifacts")


def sqlite_uri(database: Path) -> str:
    """The tracking URI of a file."""
    path = re.sub("[%?#]", lambda sign: f"%{ord(sign[0]):02X}", str(database))  # they mean something in a URI
    return f"sqlite:///{path}"


def runs_page(experiment_id: str, query: str) -> str:
    """What follows the address of a server: the runs of an experiment, in a saved view."""
    return f"/#/experiments/{experiment_id}/runs?{query}"


def view_command(store: Store, experiment_id: str, query: str = MEANS_QUERY) -> str:
    """How to look at an experiment in a browser."""
    page = runs_page(experiment_id, query)
    if store.database is None:
        return f"{store}{page}"
    # A server as it comes starts 15 processes that take 2.5 GB; two are enough for one person.
    return (
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --workers 1 --port 5000"
        f" --backend-store-uri {shlex.quote(str(store))}\nthen http://127.0.0.1:5000{page}"
    )


_held: ContextVar[frozenset[Path]] = ContextVar("_held", default=frozenset())


@contextmanager
def alone(store: Store) -> Iterator[None]:
    """Be the only process of this machine that writes to a store: others wait, and say so.

    Two first uses of an SQLite store at once crash, and two mirrors to one server delete each other's runs. Within
    the block it may be used again.
    """
    lock_file = _lock_file(store)
    if lock_file in _held.get() or sys.platform == "win32":  # without flock, two at once are not noticed
        yield
        return
    import fcntl

    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that mirrors to {store}", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        token = _held.set(_held.get() | {lock_file})
        try:
            yield  # the lock ends with the file's closing, and with the process if it dies
        finally:
            _held.reset(token)


def is_busy(store: Store) -> bool:
    """Whether another process of this machine holds the lock that `alone` takes."""
    lock_file = _lock_file(store)
    if not lock_file.is_file() or sys.platform == "win32":
        return False
    import fcntl

    with lock_file.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock_file(store: Store) -> Path:
    if store.database is not None:
        return Path(f"{store.database}.lock")
    # A user's own, as that of an output (`runtime.atomic_output`). It stays: nobody could wait for a removed one.
    user = os.getuid() if hasattr(os, "getuid") else 0
    place = hashlib.sha256(store.uri.encode()).hexdigest()[:32]
    return Path(tempfile.gettempdir()) / f"synthgain-{user}-mlflow-{place}.lock"
