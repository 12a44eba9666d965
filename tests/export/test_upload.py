"""An export to an object store: real S3 protocol, spoken by moto's server on this machine."""

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.errors import SynthGainError
from pipeline.export import bucket as bucket_module
from pipeline.export import upload
from pipeline.export.bucket import Bucket, is_address
from pipeline.export.dataset import export_dataset
from pipeline.export.upload import CLAIM, unfinished, upload_dataset
from pipeline.maintenance.half_written import half_written_outputs
from synthgain.app import app
from tests.export.conftest import samples_of, synthetic_images, tree
from tests.s3_server import client, credentials, s3_server

ROOT = Path(__file__).parents[2]
FORMATS = ["npz", "parquet", "webdataset", "arrow"]
SHARD = 8  # three shards of 21 images, the last one smaller


@pytest.fixture(scope="module")
def server():
    """The address of an S3 server."""
    with s3_server() as address:
        yield address


@pytest.fixture
def s3(server, tmp_path, monkeypatch):
    """A prefix of an empty bucket, and a current folder of its own."""
    for name, value in credentials(server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    bucket_module._open.cache_clear()
    monkeypatch.setattr(bucket_module, "_SECONDS_BETWEEN_TRIES", (0.01, 0.01, 0.01))
    name = f"data-{abs(hash(tmp_path)) % 10**8}"
    client(server).create_bucket(Bucket=name)
    yield Bucket(f"s3://{name}/digits")
    bucket_module._open.cache_clear()


def objects(place):
    """Every object below, and its bytes, as the store's own library has them; without pyarrow's mark of a folder."""
    bucket, _, prefix = place.address.removeprefix("s3://").partition("/")
    store, start = client(os.environ["AWS_ENDPOINT_URL"]), f"{prefix}/"
    listed = store.list_objects_v2(Bucket=bucket, Prefix=start).get("Contents", [])
    keys = [each["Key"] for each in listed if each["Key"] != start]
    return {key.removeprefix(start): store.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def put(samples, place, formats=FORMATS, **options):
    return upload_dataset(samples, place, formats=formats, source="mnist", shard_size=SHARD, **options)


def test_it_is_what_an_export_to_a_folder_is(s3, tmp_path):
    samples = samples_of(synthetic_images(), tmp_path / "s.npz")
    export_dataset(samples, tmp_path / "out", formats=FORMATS, source="mnist", shard_size=SHARD)
    assert put(samples, s3, workers=2) == FORMATS
    assert objects(s3) == tree(tmp_path / "out")
    assert unfinished(tmp_path) == [] and not list((tmp_path / ".work").rglob("*.npz"))


def test_the_commands_take_an_address(s3, tmp_path):
    synthetic_images().save(tmp_path / "s.npz")

    def synthgain(*arguments):
        done = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.exception
        return done.output

    written = synthgain("export", "s.npz", "--out", s3.address, "--format", "parquet,arrow", "--workers", "1")
    assert f"21 images, parquet: {s3.address}/parquet" in written
    assert f"{s3.address}/arrow: ok" in synthgain("verify", s3.address)
    shown = synthgain("inspect", f"{s3.address}/parquet")
    assert "21 synthetic and 0 real" in shown and f"manifest: {s3.address}/parquet/manifest.json" in shown


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.export import dataset, upload
from pipeline.export.bucket import Bucket
from pipeline.export.samples import select_samples
from pipeline.export.source import open_images

left, put = int(sys.argv[3]), Bucket.put

def dying(self, name, file):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    put(self, name, file)

Bucket.put = dying
samples = select_samples(open_images(Path(sys.argv[1])))
upload.upload_dataset(
    samples, Bucket(sys.argv[2]), formats=["npz", "parquet", "webdataset", "arrow"], source="mnist", shard_size=8
)
"""


# At the claim, at the first shard and among them; at what is beside the shards, after the first whole format, and at
# the last manifest.
@pytest.mark.parametrize("puts", [0, 1, 6, 13, 18, 31])
def test_killed_at_any_put_it_goes_on_and_ends_with_the_same_objects(s3, tmp_path, monkeypatch, puts):
    samples = samples_of(synthetic_images(), tmp_path / "s.npz")
    export_dataset(samples, tmp_path / "out", formats=FORMATS, source="mnist", shard_size=SHARD)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "s.npz"), s3.address, str(puts)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    there = s3.sizes()
    for name in (name for name in there if name.endswith("/manifest.json")):  # with it, a format is whole
        folder = name.partition("/")[0]
        wanted = json.loads(s3.read(name))["files"]
        assert {f"{folder}/{path}": facts["bytes"] for path, facts in wanted.items()}.items() <= there.items()
    (finding,) = half_written_outputs(tmp_path).findings  # what the doctor says
    assert finding.where == s3.address and "the same command from here goes on" in finding.remedy
    put(samples, s3)
    assert objects(s3) == tree(tmp_path / "out") and unfinished(tmp_path) == []
    assert len(tree(tmp_path / "out")) == 31


def test_another_export_there_is_refused_and_nothing_is_changed(s3, tmp_path, monkeypatch):
    samples = samples_of(synthetic_images(), tmp_path / "s.npz")
    put(samples, s3, ["arrow"])
    before = objects(s3)
    with pytest.raises(SynthGainError, match=r"holds 8 objects, arrow/README.md among them; an export needs"):
        put(samples, s3, ["arrow"])
    assert objects(s3) == before


def test_of_two_at_once_the_second_is_told_who_writes(s3, tmp_path, monkeypatch):
    samples = samples_of(synthetic_images(), tmp_path / "s.npz")

    class Stop(Exception):
        pass

    def stop(*_, **__):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(upload, "write_shards", stop)
        with pytest.raises(Stop):
            put(samples, s3, ["arrow"])
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(
        SynthGainError, match=rf"another export writes there \(from .*{tmp_path}.*\); wait for"
    ):
        put(samples, s3, ["arrow"])
    monkeypatch.chdir(tmp_path)
    put(samples, s3, ["arrow"])
    assert CLAIM not in s3.sizes()


@pytest.mark.parametrize("name", ["idx", "png"])
def test_formats_without_a_file_per_shard_are_refused(s3, tmp_path, name):
    samples = samples_of(synthetic_images(), tmp_path / "s.npz")
    with pytest.raises(
        SynthGainError, match=f"found {name} for an object store; allowed there are npz, parquet"
    ):
        upload_dataset(samples, s3, formats=[name, "parquet"], source="mnist")


def test_a_bucket_that_is_not_there_is_one_line(s3, tmp_path):
    samples = samples_of(synthetic_images(), tmp_path / "s.npz")
    with pytest.raises(SynthGainError, match=r"^s3://nobody-has-this/x: cannot .*: NO.SUCH.BUCKET.*$"):
        put(samples, Bucket("s3://nobody-has-this/x"))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://", "names no bucket|s3://bucket/prefix"),
        ("ftp://host/folder", "an address such as s3://bucket/prefix"),
        ("s3://key:a-secret-of-nobody@/x", "s3://bucket/prefix|names no bucket"),
    ],
)
def test_an_address_that_is_none_is_one_line_without_secrets(address, said):
    assert is_address(address)
    with pytest.raises(SynthGainError, match=said) as told:
        Bucket(address).sizes()
    assert "a-secret" not in str(told.value) and "\n" not in str(told.value)


class Unwilling(BaseHTTPRequestHandler):
    """Answers 503 so often, then passes nothing on."""

    def do_GET(self):
        self.server.asked += 1
        body = b"<Error><Code>SlowDown</Code><Message>later</Message></Error>"
        self.send_response(503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST = do_HEAD = do_GET

    def log_message(self, *_):
        pass


def test_a_store_that_says_503_is_asked_a_few_times_and_then_named(s3, tmp_path, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Unwilling) as server:
        server.asked = 0
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            bucket_module._open.cache_clear()
            monkeypatch.setattr(bucket_module, "_SECONDS_BETWEEN_TRIES", (0.01,))
            with pytest.raises(SynthGainError, match=r"^s3://.*/digits: cannot list it: .*$"):
                Bucket(s3.address).sizes()
            assert 2 <= server.asked <= 200  # the library under pyarrow tries again by itself
        finally:
            server.shutdown()
            thread.join()


def test_a_store_that_recovers_gets_it_all(s3, tmp_path, monkeypatch):
    samples = samples_of(synthetic_images(), tmp_path / "s.npz")
    opened, failures = (
        Bucket._opened.fget,
        [OSError("AWS Error SLOW_DOWN during PutObject operation: later")] * 2,
    )

    def shaky(self):
        filesystem, root = opened(self)

        class Shaky:
            def __getattr__(self, name):
                if name == "open_output_stream" and failures:
                    raise failures.pop()
                return getattr(filesystem, name)

        return Shaky(), root

    monkeypatch.setattr(Bucket, "_opened", property(shaky))
    put(samples, s3, ["arrow"])
    assert not failures and json.loads(s3.read("arrow/manifest.json"))["images"] == 21


def test_an_address_of_a_folder_works_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples = samples_of(synthetic_images(), tmp_path / "s.npz")
    export_dataset(samples, tmp_path / "out", formats=FORMATS, source="mnist", shard_size=SHARD)
    put(samples, Bucket(f"file://{tmp_path}/there"))
    assert tree(tmp_path / "there") == tree(tmp_path / "out")
