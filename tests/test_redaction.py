"""No password and no token in what is shown, whatever it looks like; nothing else is changed."""

import base64
import json
import subprocess
import sys
from urllib.parse import quote

import pytest

from pipeline.redaction import without_secrets

NAMES = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "SYNTHGAIN_MIRROR")


@pytest.fixture(autouse=True)
def _no_secrets_of_this_machine(monkeypatch):
    for name in (*NAMES, *("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://user:secret@host:5000/x.", "at http://…@host:5000/x."),
        ("https://token@host", "https://…@host"),
        ("http://user:se/cr@et@host", "http://…@host"),
        ("http://user:se?cr#et@host", "http://…@host"),
        ("http://user:secr%2Fet@host, then http://u:p@h", "http://…@host, then http://…@h"),
        ("https://host/files?token=secret&x=1 gave 404", "https://host/files?… gave 404"),
        ("https://host/?secret", "https://host/?…"),
        ("https://host/#access_token=secret", "https://host/#…"),
        (
            "Max retries exceeded with url: /api?token=secret (down)",
            "Max retries exceeded with url: /api?… (down)",
        ),
        ("postgresql://user:secret@host/db", "postgresql://…@host/db"),
        ("http://user:1/secret@host", "http://…@host"),
        ("found user:secret@host:5000; allowed", "found …@host:5000; allowed"),
        ("Failed to parse: http://user:secr", "Failed to parse: http://…"),
        ("Failed to parse: http://user:1secr/et", "Failed to parse: http://…"),
        ("{'Authorization': 'Basic c2VjcmV0'}", "{'Authorization': '…'}"),
        ("Authorization: Bearer secret", "Authorization: …"),
        ("host=db password=secret", "host=db password=…"),
    ],
)
def test_secrets_in_addresses_and_headers_are_hidden(text, shown):
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/a@b/mlflow.db: database is locked",
        "models:/synthgain-mnist@champion: not in MLflow at http://host:5000",
        "allowed are http://host:port, https://host and http(s)://host:port/path",
        "http://[::1]:5000 and http://host:8080, http://host:80",
        "https://cdn.example/repository@main/files: HTTP 404",
        "see https://mlflow.org/docs/auth#authenticating",
        "write to a@b.org? yes",
        "what? x=1",
        "data/raw/train?.gz: basic authentication failed, page_token=3",
        "",
    ],
)
def test_other_text_stays_as_it_is(text):
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("MLFLOW_TRACKING_URI", "http://user:{}@host", "hunter22"),
        ("MLFLOW_TRACKING_URI", "http://user:{}@host", "hun/ter@22"),
        ("MLFLOW_TRACKING_URI", "http://user:{}@host", "hünter ♥"),
        ("MLFLOW_TRACKING_URI", "http://{}@host", "hunter22"),
        ("MLFLOW_TRACKING_PASSWORD", "{}", 'hun"ter<22'),
        ("MLFLOW_TRACKING_TOKEN", "{}", "hunter22"),
        ("SYNTHGAIN_MIRROR", "https://host/x?token={}", "hunter22"),
        ("HTTPS_PROXY", "http://user:{}@proxy:3128", "hunter22"),
    ],
)
def test_secrets_of_the_environment_are_known_in_every_form(monkeypatch, name, value, secret):
    forms = {secret, quote(secret, safe=""), quote(secret, safe="").lower(), json.dumps(secret)[1:-1]}
    if "user:" in value:
        forms.add(base64.b64encode(f"user:{secret}".encode()).decode())
    for written in {secret, quote(secret, safe="")} if "://" in value else {secret}:
        monkeypatch.setenv(name, value.format(written))
        for form in forms:
            assert without_secrets(f"you sent x{form}x, and «{form}»") == "you sent x…x, and «…»"


def test_a_short_secret_mangles_no_words(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "abc")
    assert without_secrets("abc abcd") == "abc abcd"
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass")
    assert without_secrets("12 passed; you sent user:pass, 'pass'") == "12 passed; you sent user:…, '…'"


def test_nothing_heavy_is_imported():
    code = "import sys; import pipeline.redaction; sys.exit(any(m in sys.modules for m in ('requests', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
