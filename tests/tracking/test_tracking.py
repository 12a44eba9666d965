"""MLflow shows each run of the current study once, whatever happened before; trouble is one line, soon."""

import base64
import dataclasses
import http.server
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import text

from pipeline.errors import SynthGainError
from pipeline.tracking import connection
from pipeline.tracking.mirror import Comparison, Mirrored, compare_with_store, mirror
from pipeline.tracking.planned_runs import Images, PlannedRun
from pipeline.tracking.saved_views import MEANS_QUERY, TAG_PREFIX
from pipeline.tracking.store import alone, find_store, view_command

REAL = Images(
    "mnist-real", "ab12", "data/prepared/train.npz", "training", 60, (1, 8, 8), {"real_images": "60"}
)
MADE = Images("mnist-synthetic", "cd34", "data/synthetic/60/0.npz", "training", 90, (1, 8, 8))


def cell(arm, ratio, accuracy=0.9, replicate=0):
    return PlannedRun(
        kind="cell",
        key=f"cell/60/{arm}/{ratio}/{replicate}",
        name=f"60 · {arm} · {ratio} · replicate {replicate}",
        params={
            "arm": arm,
            "synthetic_per_real": str(ratio),
            "real_images": "60",
            "replicate": str(replicate),
        },
        metrics=[("test_accuracy", accuracy, 0), ("test_f1_straße", accuracy, 0)],
        inputs=[REAL, MADE] if ratio else [REAL],
    )


def study(*children, folder, points=3):
    """A parent whose content depends on that of its children, and the children."""
    table = folder / "cells.csv"
    table.write_text("".join(child.content_sha256() + "\n" for child in children))
    parent = PlannedRun(
        kind="study",
        key="study",
        name="study · mnist",
        params={f"gan.key{number}": str(number) for number in range(120)},
        metrics=[("d_loss", 1 / step, step) for step in range(1, points + 1)],
        tags={"verdict": "no gain"},
        note="no gain\n\n| arm |\n| --- |",
        artifacts=[(table, ""), (table, "figures")],
    )
    return [parent, *children]


@pytest.fixture
def store(tmp_path, empty_database):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return find_store({}, tmp_path)


class Shown:
    """What a reader of the experiment sees."""

    def __init__(self, store, experiment="synthgain-mnist"):
        self.client = MlflowClient(store.uri, registry_uri=store.uri)
        self.experiment = self.client.get_experiment_by_name(experiment)
        self.runs = self.client.search_runs([self.experiment.experiment_id], max_results=1000)

    def by_key(self):
        keyed = {run.data.tags["synthgain.key"]: run for run in self.runs}
        assert len(keyed) == len(self.runs), "a run is shown twice"
        return keyed

    def ids(self):
        return {key: run.info.run_id for key, run in self.by_key().items()}

    def deleted(self):
        return self.client.search_runs([self.experiment.experiment_id], run_view_type=ViewType.DELETED_ONLY)

    def is_one_finished_tree(self):
        runs = self.by_key()
        parent = runs.pop("study")
        parents = {run.data.tags["mlflow.parentRunId"] for run in runs.values()}
        statuses = {run.info.status for run in self.runs}
        return statuses == {"FINISHED"} and parents <= {parent.info.run_id}


def show(runs, store, root, experiment="synthgain-mnist"):
    return mirror(runs, experiment=experiment, store=store, root=root)


def test_params_and_lock_are_mirrored_without_paths_of_the_machine(store, tmp_path):
    own = f"data:\n  folder: {tmp_path}/own\n"
    for name in ("params.yaml", "dvc.lock"):
        (tmp_path / name).write_text(own)
    (parent,) = study(folder=tmp_path)
    with_params = dataclasses.replace(parent, artifacts=[(tmp_path / "params.yaml", "")])
    show([with_params], store, tmp_path)
    folder = tmp_path / "mlartifacts" / Shown(store).ids()["study"] / "artifacts"
    for name in ("params.yaml", "dvc.lock"):
        text = (folder / name).read_text()
        assert "folder:" in text and str(tmp_path) not in text
        assert (tmp_path / name).read_text() == own


def test_everything_planned_can_be_read_back(store, tmp_path):
    # More points and parameters than fit into one call.
    runs = study(cell("real", 0), cell("synthetic", 0.5), folder=tmp_path, points=1501)
    assert show(runs, store, tmp_path) == Mirrored(created=3, kept=0, removed=0, experiment_id="1")
    shown = Shown(store)
    assert shown.is_one_finished_tree()
    for planned in runs:
        run = shown.by_key()[planned.key]
        assert run.info.run_name == planned.name
        assert run.data.params == planned.params
        last = {name: value for name, value, _ in planned.metrics}
        assert run.data.metrics == last
        assert run.data.tags["kind"] == planned.kind
        assert run.data.tags.items() >= planned.tags.items()
        logged = {(each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs}
        assert logged == {(images.name, images.digest) for images in planned.inputs}
    parent = shown.by_key()["study"]
    assert parent.data.tags["mlflow.note.content"] == runs[0].note
    history = shown.client.get_metric_history(parent.info.run_id, "d_loss")
    assert sorted((point.step, point.value) for point in history) == [(s, v) for _, v, s in runs[0].metrics]
    copied = tmp_path / "mlartifacts" / parent.info.run_id / "artifacts/figures/cells.csv"
    assert copied.read_bytes() == (tmp_path / "cells.csv").read_bytes()
    (context,) = (
        tag.value
        for each in shown.by_key()["cell/60/real/0/0"].inputs.dataset_inputs
        for tag in each.tags
        if tag.key == "mlflow.data.context"
    )
    assert context == "training"


def test_mirroring_twice_changes_nothing(store, tmp_path):
    runs = study(cell("real", 0), cell("synthetic", 0.5), folder=tmp_path)
    show(runs, store, tmp_path)
    before = Shown(store).ids()
    assert show(runs, store, tmp_path) == Mirrored(created=0, kept=3, removed=0, experiment_id="1")
    assert Shown(store).ids() == before


def test_views_are_offered_follow_the_study_and_leave_others_alone(store, tmp_path):
    def views():
        tags = Shown(store).experiment.tags
        return {key: value for key, value in tags.items() if key.startswith(TAG_PREFIX)}

    show(study(cell("real", 0), cell("synthetic", 0.5), folder=tmp_path), store, tmp_path)
    first = views()
    assert len(first) == 3
    state = json.loads(first[TAG_PREFIX + "synthgain-means"])["state"]
    restored = json.loads(zlib.decompress(base64.b64decode(state.removeprefix("deflate;"))))
    assert set(restored["groupsExpanded"]) == {
        "param.arm.real,param.synthetic_per_real.0",
        "param.arm.synthetic,param.synthetic_per_real.0.5",
    }
    Shown(store).client.set_experiment_tag("1", TAG_PREFIX + "mine", "{}")
    show(study(cell("real", 0), cell("synthetic", 0.5), folder=tmp_path), store, tmp_path)
    assert views() == {**first, TAG_PREFIX + "mine": "{}"}
    show(study(cell("real", 0), cell("synthetic", 2.0), folder=tmp_path), store, tmp_path)
    changed = {key for key, value in views().items() if value != first.get(key)}
    assert changed == {TAG_PREFIX + "synthgain-means", TAG_PREFIX + "mine"}


def test_the_searches_of_the_documentation_are_valid(store, tmp_path):
    page = (Path(__file__).parents[2] / "docs/mlflow.md").read_text()
    table = page.split("| to find | search |")[1].split("```")[0]
    searches = re.findall(r"\| `(.+)` \|", table)
    assert len(searches) >= 5
    show(study(cell("synthetic", 0.5), folder=tmp_path), store, tmp_path)
    found = {search: Shown(store).client.search_runs(["1"], search) for search in searches}
    assert [run.info.run_name for run in found["dataset.name = 'mnist-synthetic'"]] == [
        cell("synthetic", 0.5).name
    ]


def test_a_changed_cell_supersedes_its_run_and_the_others_move_to_the_new_parent(store, tmp_path):
    show(study(cell("real", 0), cell("synthetic", 0.5, 0.9), folder=tmp_path), store, tmp_path)
    before = Shown(store).ids()
    changed = study(cell("real", 0), cell("synthetic", 0.5, 0.8), folder=tmp_path)
    assert show(changed, store, tmp_path) == Mirrored(created=2, kept=1, removed=2, experiment_id="1")
    shown = Shown(store)
    assert shown.is_one_finished_tree()
    assert shown.by_key()["cell/60/synthetic/0.5/0"].data.metrics["test_accuracy"] == 0.8
    same = {key for key, run_id in shown.ids().items() if before[key] == run_id}
    assert same == {"cell/60/real/0/0"}
    assert {run.info.run_id for run in shown.deleted()} == set(before.values()) - set(shown.ids().values())


def test_an_added_ratio_makes_its_own_runs_only_and_a_removed_one_goes(store, tmp_path):
    small = study(cell("real", 0), cell("synthetic", 0.5), folder=tmp_path)
    show(small, store, tmp_path)
    before = Shown(store).ids()
    children = (*small[1:], cell("synthetic", 1.0), cell("synthetic_affine", 1.0))
    added = show(study(*children, folder=tmp_path), store, tmp_path)
    assert (added.created, added.kept, added.removed) == (3, 2, 1)  # the parent is a new one each time
    assert Shown(store).is_one_finished_tree()
    again = show(study(*small[1:], folder=tmp_path), store, tmp_path)
    assert (again.created, again.kept, again.removed) == (1, 2, 3)
    shown = Shown(store)
    assert shown.is_one_finished_tree()
    assert {**before, "study": None} == {**shown.ids(), "study": None}


@pytest.mark.parametrize("interrupted_at", [1, 2, 3])
def test_a_killed_mirror_is_completed_by_the_next(store, tmp_path, monkeypatch, interrupted_at):
    runs = study(cell("real", 0), cell("real", 0, replicate=1), cell("synthetic", 0.5), folder=tmp_path)
    calls = []

    def dies(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == interrupted_at:
            raise KeyboardInterrupt
        return log_inputs(self, *args, **kwargs)

    log_inputs = MlflowClient.log_inputs
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, "log_inputs", dies)
        show(runs, store, tmp_path)
    half = Shown(store)
    running = {run.info.run_id for run in half.runs if run.info.status == "RUNNING"}
    assert running == {half.ids()["study"], half.ids()[runs[interrupted_at].key]}
    done = interrupted_at - 1
    assert show(runs, store, tmp_path) == Mirrored(
        created=4 - done, kept=done, removed=2, experiment_id=half.experiment.experiment_id
    )
    shown = Shown(store)
    assert shown.is_one_finished_tree() and len(shown.runs) == 4
    assert {(run.info.run_id, run.info.status) for run in shown.deleted()} == {
        (id, "KILLED") for id in running
    }


def test_runs_of_other_people_stay(store, tmp_path):
    runs = study(cell("real", 0), folder=tmp_path)
    show(runs, store, tmp_path)
    client = MlflowClient(store.uri)
    own = [client.create_run("1", run_name="by hand") for _ in range(2)]
    client.set_terminated(own[0].info.run_id)
    show(study(cell("real", 0, 0.5), folder=tmp_path), store, tmp_path)
    assert {client.get_run(run.info.run_id).info.lifecycle_stage for run in own} == {"active"}


def test_a_run_or_experiment_deleted_by_hand_comes_back(store, tmp_path):
    runs = study(cell("real", 0), cell("synthetic", 0.5), folder=tmp_path)
    show(runs, store, tmp_path)
    shown = Shown(store)
    shown.client.delete_run(shown.ids()["cell/60/real/0/0"])
    assert show(runs, store, tmp_path).created == 1
    show(study(cell("real", 0, 0.5), folder=tmp_path), store, tmp_path)
    shown.client.delete_experiment(shown.experiment.experiment_id)
    show(runs, store, tmp_path)  # MLflow brings all superseded runs back with the experiment
    shown = Shown(store)
    assert shown.is_one_finished_tree()
    assert shown.by_key()["cell/60/real/0/0"].data.metrics["test_accuracy"] == 0.9


def test_the_parent_knows_commit_and_lock_and_a_commit_makes_no_new_run(store, tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=A", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    runs = study(cell("real", 0), folder=tmp_path)
    show(runs, store, tmp_path)
    tags = Shown(store).by_key()["study"].data.tags
    assert not {"mlflow.source.git.commit", "git.dirty", "dvc.lock_sha256"} & set(tags)
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    git("init", "--quiet")
    git("add", "dvc.lock")
    for dirty in ("false", "true"):
        git("commit", "--quiet", "--allow-empty", "-m", dirty)
        if dirty == "true":
            (tmp_path / "dvc.lock").write_text("stages: {a: 1}\n")
        assert show(runs, store, tmp_path).created == 0
        shown = Shown(store)
        tags = shown.by_key()["study"].data.tags
        assert tags["git.dirty"] == dirty and len(tags["mlflow.source.git.commit"]) == 40
        lock = tmp_path / "mlartifacts" / shown.ids()["study"] / "artifacts/dvc.lock"
        assert lock.read_bytes() == (tmp_path / "dvc.lock").read_bytes()
    assert {"python", "torch", "mlflow", "dvc.lock_sha256"} <= set(tags)


@pytest.mark.slow
def test_processes_that_start_together_share_one_fresh_store(tmp_path):
    script = (
        "import sys; from pathlib import Path;"
        "from pipeline.tracking.planned_runs import PlannedRun;"
        "from pipeline.tracking.store import find_store; from pipeline.tracking.mirror import mirror;"
        "runs = [PlannedRun('study', 'study', 's'), PlannedRun('gan', 'gan/60/0', 'g')];"
        "root = Path(sys.argv[1]);"
        "print(mirror(runs, experiment='e', store=find_store({}, root), root=root))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=-1, stderr=-1, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=100) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], outputs
    assert sorted("created=2" in out for out, _ in outputs) == [False, False, True]
    # Nothing but our own words: MLflow and Alembic tell about each table otherwise.
    assert all(not line or line.startswith("waiting") for _, err in outputs for line in err.splitlines())
    assert len(Shown(find_store({}, tmp_path), "e").by_key()) == 2
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.slow
@pytest.mark.parametrize("statement", [10, 500, 1500])  # of the 1683 by which MLflow makes its tables
def test_a_store_is_made_whole_or_not_at_all(tmp_path, statement):
    """MLflow itself, killed while it makes its tables, leaves a store that nobody can use any more."""
    script = (
        "import os, signal, sys; from itertools import count; from pathlib import Path;"
        "from sqlalchemy import event; from sqlalchemy.engine import Engine;"
        "from pipeline.tracking.planned_runs import PlannedRun;"
        "from pipeline.tracking.store import find_store; from pipeline.tracking.mirror import mirror;"
        "root, last, statements = Path(sys.argv[1]), int(sys.argv[2]), count(1);"
        "event.listen(Engine, 'before_cursor_execute',"
        " lambda *_: next(statements) == last and os.kill(os.getpid(), signal.SIGKILL));"
        "mirror([PlannedRun('study', 'study', 's')], experiment='e', store=find_store({}, root), root=root)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    killed = subprocess.run([*command, str(statement)], capture_output=True)
    half = tmp_path / ".mlflow.db.tmp"
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert half.exists() and not (tmp_path / "mlflow.db").exists()
    subprocess.run([*command, "0"], check=True, capture_output=True)
    assert len(Shown(find_store({}, tmp_path), "e").by_key()) == 1
    assert not half.exists()


# --- a server ---


@pytest.fixture(scope="module")
def server(empty_database, tmp_path_factory):
    """A real `mlflow server` on loopback with a store of its own."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "mlflow.db")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # its own session: the server and its worker
        process.wait(timeout=30)


def test_a_server_shows_the_same_as_a_file(server, tmp_path):
    store = find_store({"MLFLOW_TRACKING_URI": server + "/"}, tmp_path)
    runs = study(cell("real", 0), cell("synthetic", 0.5), folder=tmp_path)
    assert show(runs, store, tmp_path).created == 3
    assert show(runs, store, tmp_path).created == 0
    shown = Shown(store)
    assert shown.is_one_finished_tree()
    mixed = shown.by_key()["cell/60/synthetic/0.5/0"]
    assert mixed.data.params == runs[2].params and mixed.data.metrics["test_f1_straße"] == 0.9
    assert {each.dataset.name for each in mixed.inputs.dataset_inputs} == {"mnist-real", "mnist-synthetic"}
    parent = shown.by_key()["study"]
    assert shown.experiment.artifact_location.startswith("mlflow-artifacts:")  # the server's choice
    copy = shown.client.download_artifacts(parent.info.run_id, "figures/cells.csv", str(tmp_path))
    assert Path(copy).read_bytes() == (tmp_path / "cells.csv").read_bytes()
    assert len(parent.data.params) == 120
    found = shown.client.search_runs(
        [shown.experiment.experiment_id], "params.synthetic_per_real = '0.5' and metrics.test_accuracy > 0.8"
    )
    assert [run.info.run_id for run in found] == [mixed.info.run_id]
    assert not (tmp_path / "mlruns").exists() and not (tmp_path / "mlartifacts").exists()


def test_two_checkouts_do_not_share_an_experiment(server, tmp_path):
    stores = [
        find_store({"MLFLOW_TRACKING_URI": server, "SYNTHGAIN_WORKSPACE": name}, tmp_path)
        for name in ("alice", "bob")
    ]
    runs = study(cell("real", 0), folder=tmp_path)
    show(runs, stores[0], tmp_path, "shared")
    with pytest.raises(SynthGainError, match=r"mirrors alice, and this is bob; give tracking\.experiment"):
        show(study(cell("real", 0, 0.1), folder=tmp_path), stores[1], tmp_path, "shared")
    assert len(Shown(stores[0], "shared").by_key()) == 2
    assert show(runs, stores[1], tmp_path, "of-bob").created == 2


@contextmanager
def broken_server(kind):
    """Loopback address of a server that refuses, says nothing, or fails."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        if kind == "hanging":
            yield port
            return
    if kind == "refusing":
        yield port
        return

    class Failing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(500)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", port), Failing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("refusing", "connection refused"),
        ("hanging", "no answer in time"),
        ("failing", "/health has status 500"),
    ],
)
def test_a_broken_server_is_one_line_within_seconds(tmp_path, kind, words):
    with broken_server(kind) as port:
        uri = f"http://user:secret@127.0.0.1:{port}"
        start = time.monotonic()
        with pytest.raises(SynthGainError) as caught:
            show(study(folder=tmp_path), find_store({"MLFLOW_TRACKING_URI": uri}, tmp_path), tmp_path)
        seconds = time.monotonic() - start
    message = str(caught.value)
    assert seconds < 6
    for part in (words, f"127.0.0.1:{port}", "Nothing else is lost", "dvc repro", "synthgain stage track"):
        assert part in message
    assert "secret" not in message and "\n" not in message


# --- which store, and what is wrong with it ---


def test_where_the_store_is(tmp_path):
    own = find_store({}, tmp_path)
    assert own.uri == f"sqlite:///{tmp_path}/mlflow.db" and own.artifacts == tmp_path / "mlartifacts"
    relative = find_store({"MLFLOW_TRACKING_URI": "sqlite:///sub/m.db"}, tmp_path)
    assert relative.database == tmp_path / "sub/m.db" and relative.artifacts == tmp_path / "sub/mlartifacts"
    absolute = find_store({"MLFLOW_TRACKING_URI": "sqlite:////srv/m.db"}, tmp_path)
    assert absolute.uri == "sqlite:////srv/m.db"
    server = find_store({"MLFLOW_TRACKING_URI": "https://u:p@host:8443/mlflow/"}, tmp_path)
    assert server.uri == "https://host:8443/mlflow" and server.artifacts is None
    assert (server.user, server.password) == ("u", "p")
    assert str(server) == "https://host:8443/mlflow" and "'p'" not in repr(server)
    assert view_command(server, "7") == f"https://host:8443/mlflow/#/experiments/7/runs?{MEANS_QUERY}"
    spaced = find_store({}, tmp_path / "my data")
    assert f"'sqlite:///{tmp_path}/my data/mlflow.db'" in view_command(spaced, "1")


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://host",
        "./mlruns",
        "file:///mlruns",
        "http://",
        "http://[bad",
        "localhost:5000",
        "sqlite://",
        "htp://u:secret@h",
    ],
)
def test_a_uri_that_cannot_hold_runs_names_those_that_can(uri, tmp_path):
    with pytest.raises(
        SynthGainError, match=r"MLFLOW_TRACKING_URI: found .*allowed are http://host:port"
    ) as caught:
        find_store({"MLFLOW_TRACKING_URI": uri}, tmp_path)
    assert "secret" not in str(caught.value)


def test_a_folder_with_spaces_and_umlauts(store, tmp_path):
    folder = tmp_path / "mein Ordner ä%20"
    folder.mkdir()
    shutil.copy(store.database, folder / "mlflow.db")
    runs = study(cell("real", 0), folder=folder)
    show(runs, find_store({}, folder), folder)
    shown = Shown(find_store({}, folder))
    run_id = shown.ids()["study"]
    assert (folder / "mlartifacts" / run_id / "artifacts/cells.csv").is_file()
    copy = shown.client.download_artifacts(run_id, "cells.csv", str(tmp_path))
    assert Path(copy).read_text() == (folder / "cells.csv").read_text()


def refused(store, tmp_path):
    return refused_runs(store, tmp_path, study(folder=tmp_path))


def refused_runs(store, tmp_path, runs):
    start = time.monotonic()
    with pytest.raises(SynthGainError) as caught:
        show(runs, store, tmp_path)
    assert time.monotonic() - start < 6
    assert "\n" not in str(caught.value)
    return str(caught.value)


def set_schema(database, revision):
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.commit()


def test_a_store_of_another_mlflow(store, tmp_path):
    set_schema(store.database, "ffffffffffff")
    message = refused(store, tmp_path)
    assert "made by a newer MLflow than" in message and "schema ffffffffffff" in message
    set_schema(store.database, "451aebb31d03")  # MLflow 1.x
    message = refused(store, tmp_path)
    assert "made by an older MLflow than" in message and f"mlflow db upgrade {store.uri}" in message


def test_a_file_that_is_no_store(store, tmp_path):
    store.database.write_text("hello " * 1000)
    assert "file is not a database" in refused(store, tmp_path)
    store.database.unlink()
    with closing(sqlite3.connect(store.database)) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    assert "no MLflow store (its tables: customers)" in refused(store, tmp_path)


def test_only_a_store_in_the_making_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    """4 of 6 seconds on a slow disk; a store with runs in it must survive a power cut."""
    asked = []

    def watched(uri, artifacts):
        made = SqlAlchemyStore(uri, artifacts)
        asked.append(waits(made.engine))
        return made

    def waits(engine):
        with engine.connect() as connection:
            return connection.execute(text("PRAGMA synchronous")).scalar() > 0

    monkeypatch.setattr(connection, "SqlAlchemyStore", watched)
    connection.make_database(tmp_path / "mlflow.db")
    assert asked == [False]
    assert waits(SqlAlchemyStore(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path)).engine)


def test_a_store_that_cannot_be_written(empty_database):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(empty_database, folder / "mlflow.db")
        (folder / "mlflow.db").chmod(0o444)
        (folder / "mlflow.db.lock").touch()
        (folder / "mlflow.db.lock").chmod(0o666)
        runs = [PlannedRun("study", "study", "s")]
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may write everything
            with pytest.raises(SynthGainError, match="attempt to write a readonly database"):
                show(runs, find_store({}, folder), folder)
        finally:
            os.seteuid(user)


def test_a_locked_store(store, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.tracking.connection._LOCKED_SECONDS", 0.1)
    with closing(sqlite3.connect(store.database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert "database is locked" in refused(store, tmp_path)


def test_a_store_that_came_with_a_copied_folder(store, tmp_path):
    runs = study(cell("real", 0), folder=tmp_path)
    show(runs, store, tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(store.database, copy / "mlflow.db")
    message = refused(find_store({}, copy), copy)
    assert str(tmp_path / "mlartifacts") in message and "remove the file" in message
    assert not (copy / "mlartifacts").exists()


def test_a_run_that_another_machine_deletes_meanwhile_is_one_line(store, tmp_path, monkeypatch):
    log_inputs = MlflowClient.log_inputs

    def after_the_other(self, run_id, *args, **kwargs):
        MlflowClient(store.uri).delete_run(run_id)
        log_inputs(self, run_id, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_inputs", after_the_other)
        message = refused_runs(store, tmp_path, study(cell("real", 0), folder=tmp_path))
    assert "a run or model went while it was written: another machine mirrors the same workspace" in message
    assert "run `synthgain stage track` again" in message
    show(study(cell("real", 0), folder=tmp_path), store, tmp_path)
    assert Shown(store).is_one_finished_tree()


def test_a_comparison_counts_what_differs_and_writes_nothing(store, tmp_path):
    def compared(runs, store=store, experiment="synthgain-mnist"):
        folder = store.database.parent
        before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("mlflow*")}
        found = compare_with_store(runs, experiment=experiment, store=store)
        assert {
            path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("mlflow*")
        } == before
        return found

    runs = study(cell("real", 0), cell("synthetic", 0.5), folder=tmp_path)
    empty = find_store({}, tmp_path / "empty")
    empty.database.parent.mkdir()
    assert compared(runs, empty) == Comparison(3, 3) and not list(empty.database.parent.iterdir())
    empty.database.touch()  # an empty file is where SQLite begins
    assert compared(runs, empty) == Comparison(3, 3)
    assert compared(runs) == Comparison(3, 3)
    show(runs, store, tmp_path)
    assert compared(runs) == Comparison(0, 3)
    assert compared(runs, experiment="another") == Comparison(3, 3)
    changed = study(cell("real", 0), cell("synthetic", 0.5, 0.8), folder=tmp_path)
    assert compared(changed) == Comparison(2, 3)  # the cell, and the parent of them all
    assert str(compared(changed)) == "2 of 3 runs are not those of data/"
    smaller = study(cell("real", 0), folder=tmp_path)
    assert compared(smaller) == Comparison(2, 3)  # one too many
    client = Shown(store).client
    client.create_run("1", run_name="by hand", tags={"synthgain.key": "study"})
    show(smaller, store, tmp_path)
    assert compared(smaller) == Comparison(0, 2)
    (cell_run,) = client.search_runs(["1"], "tags.`synthgain.key` = 'cell/60/real/0/0'")
    client.update_run(cell_run.info.run_id, "RUNNING")
    assert compared(smaller) == Comparison(1, 2)
    with alone(store), ThreadPoolExecutor(1) as another:  # it knows nothing of this thread's lock
        busy = another.submit(compare_with_store, smaller, experiment="synthgain-mnist", store=store)
        assert busy.result() is None
    client.delete_experiment("1")
    assert compared(smaller) == Comparison(2, 2)


def test_a_cell_costs_five_calls(store, tmp_path, monkeypatch):
    # Over HTTP a call takes 25 ms or more, so one call per metric would make minutes of a study.
    counts = []

    def counting(function):
        def call(*args, **kwargs):
            counts.append(function.__name__)
            return function(*args, **kwargs)

        return call

    show(study(folder=tmp_path), store, tmp_path)
    for name in ("create_run", "log_batch", "log_inputs", "log_artifact", "set_terminated", "set_tag"):
        monkeypatch.setattr(MlflowClient, name, counting(getattr(MlflowClient, name)))
    cells = [cell("synthetic", 0.5, replicate=replicate) for replicate in range(4)]
    show(study(folder=tmp_path), store, tmp_path)
    before = len(counts)
    show(study(*cells, folder=tmp_path), store, tmp_path)
    parent = ["create_run", *["log_batch"] * 3, "log_artifact", "log_artifact", "set_terminated", "log_batch"]
    assert len(counts) - before == len(parent) + 5 * len(cells)
