"""The whole of `track` against the default store and against real servers: the second time it writes nothing."""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy
import typer
from mlflow import MlflowClient
from typer.testing import CliRunner

from pipeline.tracking.connection import default_store
from pipeline.tracking.registry import fetch_generator
from pipeline.tracking.store import find_store
from stages import track as stage_track
from tests.conftest import write_empty_generator

NAME = "synthgain-folder"
USER, PASSWORD = "admin", "Qx7hun/ter @Zk9home?#%41"  # of the basic auth; percent-encoded in the address
ENCODED = "Qx7hun%2Fter%20@Zk9home%3f%23%2541"


@dataclass(frozen=True)
class Backend:
    """A store: its MLFLOW_TRACKING_URI ("" for the default), its database, and its folder of artifacts."""

    uri: str
    database: str
    artifacts: Path


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return int(free.getsockname()[1])


@contextmanager
def process(command: list[str], log: Path, **options: object) -> Iterator[subprocess.Popen]:
    """A process of its own session, ended with all that it has started."""
    with log.open("w") as file:
        started = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, **options)
    try:
        yield started
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(started.pid, sign)
                started.wait(timeout=30)
                break
            except ProcessLookupError:
                started.wait()
                break
            except subprocess.TimeoutExpired:
                continue


def wait_until(is_ready, started: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while not is_ready():
        assert started.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


@contextmanager
def mlflow_server(folder: Path, database: str, *, has_users: bool = False) -> Iterator[str]:
    """The address of a real `mlflow server` with proxied artifacts in `folder`/artifacts."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", database]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    if has_users:
        command += ["--app-name", "basic-auth"]
        (folder / "auth.ini").write_text(
            "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
            f"database_uri = sqlite:///{folder}/auth.db\nadmin_username = {USER}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        environment["MLFLOW_AUTH_CONFIG_PATH"] = str(folder / "auth.ini")
        environment["MLFLOW_AUTH_ADMIN_PASSWORD"] = PASSWORD
        environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] = "only for this test"

    def is_healthy() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
        except OSError:
            return False
        return True

    log = folder / "mlflow.log"
    with process(command, log, cwd=folder, env=environment) as started:
        wait_until(is_healthy, started, log)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty PostgreSQL database; the test is skipped on a machine without one."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").is_file()]
    binaries = found[-1] if found else Path(shutil.which("initdb") or "").parent
    if not (binaries / "initdb").is_file():
        if os.environ.get("SYNTHGAIN_REQUIRE_POSTGRES") == "1":
            pytest.fail("SYNTHGAIN_REQUIRE_POSTGRES=1, and there is no initdb on this machine")
        pytest.skip("no PostgreSQL on this machine")
    with tempfile.TemporaryDirectory() as name:
        folder, user = Path(name), None
        if os.geteuid() == 0:  # initdb refuses root
            names = {entry.pw_name for entry in pwd.getpwall()}
            user = "postgres" if "postgres" in names else "nobody"
            shutil.chown(folder, user)
        data, log, port = folder / "data", folder / "log", free_port()
        options = {"cwd": folder, "user": user}
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "synthgain", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            **options,
        )
        address = ["-h", "127.0.0.1", "-p", str(port)]
        command = [str(binaries / "postgres"), "-D", str(data), *address, "-k", name, "-c", "fsync=off"]
        with process(command, log, **options) as started:
            ready = [binaries / "pg_isready", *address]
            wait_until(lambda: subprocess.run(ready, capture_output=True).returncode == 0, started, log)
            yield f"postgresql+psycopg2://synthgain@127.0.0.1:{port}/postgres"


@pytest.fixture(scope="module")
def backends(tmp_path_factory):
    """A function that gives a store of a kind; each is started when it is first asked for."""
    with ExitStack() as open_ones:
        made: dict[str, Backend] = {}

        def backend(kind: str) -> Backend:
            if kind not in made:
                folder = tmp_path_factory.mktemp("server")
                database = f"sqlite:///{folder}/mlflow.db"
                if kind == "postgres":
                    database = open_ones.enter_context(postgres())
                uri = open_ones.enter_context(mlflow_server(folder, database, has_users=kind == "basic auth"))
                if kind == "basic auth":
                    uri = uri.replace("://", f"://{USER}:{ENCODED}@")
                made[kind] = Backend(uri, database, folder / "artifacts")
            return made[kind]

        yield backend


@pytest.fixture
def files(write_study):
    """A whole study on disk, with a generator to register and a `dvc.lock`."""
    files = write_study(ratios=(0.5,), replicates=2)
    data = files.root / "data"
    test = {"images": 300, "pixels_sha256": "ef" * 32}
    manifest = {"image_size": 8, "splits": {"test": test, "validation": {"pixels_sha256": "cd" * 32}}}
    (data / "prepared/splits.json").write_text(json.dumps(manifest))
    write_empty_generator(data / "gan/60/0/generator.safetensors")
    (data / "report/figures").mkdir(parents=True)
    (data / "report/index.html").write_text("<p>report</p>")
    (files.root / "dvc.lock").write_text("stages: {}\n")
    return files


def start_track(files, uri: str = "", *options: str) -> subprocess.Popen:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "DVC"))}
    if uri:
        inherited["MLFLOW_TRACKING_URI"] = uri
    return subprocess.Popen(
        [sys.executable, "-m", "stages.track", *options],
        cwd=files.root,
        env=inherited,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def track(files, uri: str = "") -> str:
    started = start_track(files, uri)
    out, err = started.communicate(timeout=300)
    assert (started.returncode, said(err)) == (0, []), out + err
    return out


def track_here(files, monkeypatch, uri: str) -> str:
    """In this process, which has MLflow already."""
    monkeypatch.chdir(files.root)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    app = typer.Typer()
    app.command()(stage_track.main)
    result = CliRunner().invoke(app, [], catch_exceptions=False)
    assert (result.exit_code, said(result.stderr)) == (0, []), result.output
    return result.stdout


def said(err: str) -> list[str]:
    """What is on stderr beside the progress, which comes where a store is slow."""
    return [line for line in err.splitlines() if not line.startswith("mirroring to MLflow")]


def all_rows(database: str) -> dict[str, list[str]]:
    engine = sqlalchemy.create_engine(database)
    with engine.connect() as connection:
        tables = sqlalchemy.inspect(engine).get_table_names()
        rows = {
            table: sorted(map(repr, connection.execute(sqlalchemy.text(f'SELECT * FROM "{table}"'))))
            for table in tables
        }
    engine.dispose()
    return rows


def all_files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "kind",
    [
        "file",
        pytest.param("server", marks=pytest.mark.slow),
        # A minute and a half: the server checks the password at each call.
        pytest.param("basic auth", marks=[pytest.mark.slow, pytest.mark.soak]),
        pytest.param("postgres", marks=pytest.mark.slow),
    ],
)
def test_the_second_track_writes_nothing(backends, files, kind, empty_database, monkeypatch):
    if kind == "file":
        shutil.copy(empty_database, files.root / "mlflow.db")
        backend = Backend("", f"sqlite:///{files.root}/mlflow.db", files.root / "mlartifacts")
    else:
        backend = backends(kind)
    first = track(files, backend.uri)
    planned = (
        1 + 1 + 5 + 2 + 2 * 5
    )  # the parent, a summary, five curves, two GANs, two replicates of five arms
    assert f"{planned} runs created, 0 kept, 0 removed" in first
    assert f"{NAME} version 1: alias champion moved to it: first generator" in first
    assert "View run" not in first
    everything = f"{first}{all_rows(backend.database)}{all_files(backend.artifacts)}"
    assert "Qx7hun" not in everything and "Zk9home" not in everything
    rows, stored = all_rows(backend.database), all_files(backend.artifacts)
    assert len(rows["runs"]) == planned and len(rows["model_versions"]) == len(rows["logged_models"]) == 1
    assert sum(name.endswith("dvc.lock") for name in stored) == 1
    second = track_here(files, monkeypatch, backend.uri)
    assert f"0 runs created, {planned} kept, 0 removed" in second
    assert f"{NAME} version 1: alias champion stays: version 1 is this generator" in second
    assert all_rows(backend.database) == rows
    assert all_files(backend.artifacts) == stored
    # And what it holds can be had again.
    store = find_store({"MLFLOW_TRACKING_URI": backend.uri} if backend.uri else {}, files.root)
    generator = files.root / "data/gan/60/0/generator.safetensors"
    assert fetch_generator(f"models:/{NAME}@champion", store).read_bytes() == generator.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["server", "postgres"])
def test_two_tracks_to_one_server_wait_for_each_other(backends, files, kind):
    params = files.params.read_text()
    files.params.write_text(params.replace("experiment: synthgain", "experiment: together"))
    backend = backends(kind)
    started = [start_track(files, backend.uri) for _ in range(2)]
    outputs = [each.communicate(timeout=300) for each in started]
    assert [each.returncode for each in started] == [0, 0], outputs
    waiting = f"waiting for another process that mirrors to {backend.uri}"
    assert sorted(said(err) for _, err in outputs) == [[], [waiting]]
    assert sorted(re.findall(r"\d+ runs created, \d+ kept", "".join(out for out, _ in outputs))) == [
        "0 runs created, 19 kept",
        "19 runs created, 0 kept",
    ]
    store = find_store({"MLFLOW_TRACKING_URI": backend.uri}, files.root)
    with default_store(store):
        client = MlflowClient()
        experiment = client.get_experiment_by_name("together-folder").experiment_id
        runs = client.search_runs([experiment], run_view_type=3, max_results=1000)
        assert len(runs) == 19 and {run.info.status for run in runs} == {"FINISHED"}
        (model,) = client.search_logged_models([experiment])
        (version,) = client.search_model_versions("name = 'together-folder'")
    assert version.source == f"models:/{model.model_id}" and str(model.status) == "READY"
