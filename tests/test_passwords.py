"""No password and no token leaves by any way out: terminal, traceback, log, report, MLflow, whatever it looks like."""

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from urllib.parse import quote

import pytest

from pipeline.errors import SynthGainError
from pipeline.maintenance.doctor import unfinished_runs
from pipeline.tracking.store import find_store
from synthgain.verdict import verdict
from tests.conftest import write_empty_generator
from tests.test_faults import run_command

# Of each form: what stands between "://" and the end, and what of it is secret. `{}` is the host.
FORMS = {
    "plain": ("user:Qx7hunZk9ter@{}", ["Qx7hun", "Zk9ter"]),
    "with /": ("user:Qx7hun/Zk9ter@{}", ["Qx7hun", "Zk9ter"]),
    "with @": ("user:Qx7hun@Zk9ter@{}", ["Qx7hun", "Zk9ter"]),
    "with # and ?": ("user:Qx7hun#?Zk9ter@{}", ["Qx7hun", "Zk9ter"]),
    "with a space": ("user:Qx7hun Zk9ter@{}", ["Qx7hun", "Zk9ter"]),
    "with %": ("user:Qx7hun%Zk9ter@{}", ["Qx7hun", "Zk9ter"]),
    "percent-encoded": ("user:Qx7hun%2F%40%3aZk9ter@{}", ["Qx7hun", "Zk9ter"]),
    "short": ("user:q7Z@{}", ["q7Z"]),
    "unicode": ("user:Qx7hün♥Zk9ter@{}", ["Qx7h", "Zk9ter"]),
    "encoded unicode": ("user:Qx7h%C3%BCn@{}", ["Qx7h"]),
    "no text": ("user:Qx7h%FFn%0AZk9ter@{}", ["Qx7h", "Zk9ter"]),
    "a token alone": ("Qx7hunZk9ter@{}", ["Qx7hun"]),
    "a token in the query": ("{}/?token=Qx7hunZk9ter", ["Qx7hun"]),
    "a token in the path's query": ("{}/mlflow?Qx7hunZk9ter", ["Qx7hun"]),
    "a token in the fragment": ("{}/#Qx7hunZk9ter", ["Qx7hun"]),
    "without a host": ("user:Qx7hunZk9ter@", ["Qx7hun"]),
    "a port that is none": ("user:Qx7hunZk9ter", ["Qx7hun"]),
}
USED = {"plain", "with @", "with a space", "with %", "percent-encoded", "short"}  # the others are refused


def hidden(text: str, secrets: list[str]) -> bool:
    return not any(secret.lower() in text.lower() for secret in secrets)


# --- the address ---


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scheme", ["http://", "HTTPS://", "postgresql://", ""])
def test_an_address_is_used_without_its_password_or_refused_without_showing_it(form, scheme, tmp_path):
    written, secrets = FORMS[form]
    uri = scheme + written.format("host:5000")
    if form in USED and scheme in ("http://", "HTTPS://"):
        store = find_store({"MLFLOW_TRACKING_URI": uri}, tmp_path)
        assert store.uri == f"{scheme.lower()}host:5000"
        assert hidden(f"{store} {store!r}", secrets)
        assert store.password and quote(store.password, safe="").count("Qx7hun") == ("Qx7hun" in written)
        return
    with pytest.raises(SynthGainError) as caught:
        find_store({"MLFLOW_TRACKING_URI": uri}, tmp_path)
    assert hidden(str(caught.value), secrets)
    assert str(caught.value).startswith("MLFLOW_TRACKING_URI: ") and "\n" not in str(caught.value)


def test_passwords_are_decoded(tmp_path):
    for written, password in (("a%2Fb%40c%3ad", "a/b@c:d"), ("a@b", "a@b"), ("100%", "100%"), ("a b", "a b")):
        store = find_store({"MLFLOW_TRACKING_URI": f"http://me%40home:{written}@h"}, tmp_path)
        assert (store.user, store.password) == ("me@home", password)


# --- the terminal ---


@contextmanager
def server(kind):
    """(host:port, the Authorization headers that it got) of a server that has something wrong with it."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            seen.append(self.headers.get("Authorization"))
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            if kind == "accepts and closes":
                self.close_connection = True
                return
            if kind == "redirects without end":
                self.send_response(302)
                self.send_header("Location", f"http://{self.headers['Host']}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status = {"status 500": 500, "status 401": 401}.get(kind, 400)
            if kind == "echoes" and self.path == "/health":
                status = 200
            sent = seen[-1] or ""
            plain = base64.b64decode(sent.removeprefix("Basic ")).decode() if "Basic" in sent else sent
            message = f"you sent {sent}, that is {plain}, to http://{plain}@{self.headers['Host']}{self.path}"
            body = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": message}).encode()
            if status == 401:  # as MLflow's own says it
                body = f"You are not authenticated; {message}".encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{listening.server_port}", seen
        listening.shutdown()
        thread.join()


WRONG = {
    "status 500": "/health has status 500",
    "status 401": "user, password or token is not accepted (status 401)",
    "redirects without end": "Exceeded 30 redirects",
    "accepts and closes": "Connection aborted",
    "echoes": "you sent Basic …, that is",
}


@pytest.fixture
def files(write_study):
    """A whole study on disk."""
    files = write_study(ratios=(0.5,), replicates=1)
    data = files.root / "data"
    test = {"images": 300, "pixels_sha256": "ef" * 32}
    manifest = {"image_size": 8, "splits": {"test": test, "validation": {"pixels_sha256": "cd" * 32}}}
    (data / "prepared/splits.json").write_text(json.dumps(manifest))
    write_empty_generator(data / "gan/60/0/generator.safetensors")
    (data / "report").mkdir()
    (data / "report/index.html").write_text("<p>report</p>")
    return files


def run_track(folder, *options, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "DVC"))}
    program = "import synthgain.app; synthgain.app.main()"
    return subprocess.run(
        [sys.executable, "-c", program, "stage", "track", *options],
        cwd=folder,
        env=inherited | {"MLFLOW_LOGGING_LEVEL": "DEBUG"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRONG)
def test_track_shows_no_password_and_no_traceback_does(kind, files):
    with server(kind) as (host, seen):
        # A server that sends the password back meets every form; of the others one shows the rest of the way.
        forms = ("with @", "percent-encoded", "short") if kind == "echoes" else ("with @",)
        for form in forms:
            written, secrets = FORMS[form]
            done = run_track(files.root, "--debug", MLFLOW_TRACKING_URI=f"http://{written.format(host)}")
            assert done.returncode == 1, done.stderr
            assert "Traceback" in done.stderr and host in done.stderr
            last = done.stderr.splitlines()[-1]
            assert last.startswith("error: MLflow") and WRONG[kind] in last
            # What a server sends back can be told from other words only from four characters on.
            if (kind, form) != ("echoes", "short"):
                assert hidden(done.stdout + done.stderr, secrets), (form, done.stderr)
            # It went where it belongs.
            assert seen and all(each and each.startswith("Basic ") for each in seen), (form, seen)
            seen.clear()
        # What is sent is decided before a server answers: one kind shows it.
        for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD") if kind == "status 401" else ():
            done = run_track(
                files.root,
                *(["--debug"] if "TOKEN" in name else []),
                **{
                    "MLFLOW_TRACKING_URI": f"http://{host}",
                    "MLFLOW_TRACKING_USERNAME": "user",
                    name: "Qx7hunZk9ter",
                },
            )
            assert done.returncode == 1 and hidden(done.stdout + done.stderr, ["Qx7hun"]), done.stderr
            assert set(seen) == {
                "Bearer Qx7hunZk9ter"
                if "TOKEN" in name
                else f"Basic {base64.b64encode(b'user:Qx7hunZk9ter').decode()}"
            }
            seen.clear()


@pytest.mark.slow
def test_the_address_wins_over_the_variables(files):
    with server("status 401") as (host, seen):
        run_track(
            files.root,
            MLFLOW_TRACKING_URI=f"http://me:mine@{host}",
            MLFLOW_TRACKING_USERNAME="you",
            MLFLOW_TRACKING_PASSWORD="yours",
            MLFLOW_TRACKING_TOKEN="token",
        )
    assert set(seen) == {f"Basic {base64.b64encode(b'me:mine').decode()}"}


def test_a_refused_address_is_one_line_and_its_traceback_shows_nothing(files, monkeypatch):
    monkeypatch.chdir(files.root)
    for form in FORMS.keys() - USED:
        written, secrets = FORMS[form]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{written.format('127.0.0.1:1')}")
        status, said = run_command(["stage", "track", "--debug"], monkeypatch)
        assert status == 1 and "Traceback" in said
        assert said.splitlines()[-1].startswith("error: MLFLOW_TRACKING_URI: "), said
        assert hidden(said, secrets), (form, said)


# --- the doctor, the end of a demo ---


@pytest.mark.parametrize("kind", WRONG)
def test_the_doctor_shows_no_password(kind, tmp_path, monkeypatch):
    with server(kind) as (host, _):
        for form in ("plain", "with @", "percent-encoded", "with /", "a token in the query"):
            written, secrets = FORMS[form]
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{written.format(host)}")
            (found,) = unfinished_runs(tmp_path).findings
            assert hidden(str(found), secrets), str(found)


@pytest.mark.parametrize("form", sorted(USED))
def test_where_the_runs_are_is_said_without_the_password(form, files, monkeypatch, capsys):
    written, secrets = FORMS[form]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{written.format('host:5000')}")
    verdict(files.root)
    shown = capsys.readouterr().out
    assert "MLflow:  http://host:5000   (experiment synthgain-folder)" in shown and hidden(shown, secrets)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    verdict(files.root)
    assert f"MLflow:  synthgain ui {files.root} " in capsys.readouterr().out
