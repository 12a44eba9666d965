import base64
import hashlib
import http.server
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SynthGainError
from pipeline.sources import mirrors, published


def fetch(out: Path, *places: str, by_hand: Path | None = None) -> list[str]:
    out.mkdir(parents=True, exist_ok=True)
    said: list[str] = []
    published.fetch("mnist", out, mirrors=places, by_hand=by_hand or out.parent / "by-hand", say=said.append)
    return said


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def closed_port_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


@pytest.mark.parametrize("kind", ["good", "slow", "lengthless"])
def test_a_server_gives_the_published_bytes(tiny: Any, server: Any, tmp_path: Path, kind: str) -> None:
    fetch(tmp_path / "raw", server.url(kind))
    assert contents(tmp_path / "raw") == tiny.files  # and no temporary file is left


@pytest.mark.parametrize("shape", ["", "MNIST", "MNIST/raw"])
@pytest.mark.parametrize("as_url", [False, True])
def test_a_local_folder_is_a_mirror(tiny: Any, tmp_path: Path, shape: str, as_url: bool) -> None:
    tiny.put(tmp_path / "mirror" / shape)
    place = tmp_path / "mirror"
    fetch(tmp_path / "raw", place.as_uri() if as_url else str(place))
    assert contents(tmp_path / "raw") == tiny.files


def test_the_data_sets_own_subfolder_goes_before_files_of_the_same_name(tiny: Any, tmp_path: Path) -> None:
    tiny.put(tmp_path / "mirror" / "MNIST" / "raw")
    for name in tiny.files:
        (tmp_path / "mirror" / name).write_bytes(b"another data set of the family")
    said = fetch(tmp_path / "raw", str(tmp_path / "mirror"))
    assert not [line for line in said if "refused" in line]


@pytest.mark.parametrize("kind", ["altered", "truncated"])
def test_a_damaged_file_is_refused_by_name_and_the_next_mirror_asked(
    tiny: Any, server: Any, tmp_path: Path, kind: str
) -> None:
    said = fetch(tmp_path / "raw", server.url(kind), server.url("good"))
    assert contents(tmp_path / "raw") == tiny.files
    refusals = [line for line in said if "refused" in line]
    assert len(refusals) == 4
    for (name, content), line in zip(tiny.files.items(), refusals, strict=True):
        assert line.startswith(f"{name}: refused from {server.url(kind)}: altered or truncated")
        assert f"expected {hashlib.md5(content).hexdigest()}, found " in line


@pytest.mark.parametrize(
    ("kind", "reason"), [("missing", "HTTP 404 Not Found"), ("breaking", "altered or truncated|broke off")]
)
def test_other_failures_go_on_to_the_next_mirror(
    tiny: Any, server: Any, tmp_path: Path, kind: str, reason: str
) -> None:
    with pytest.raises(SynthGainError, match=reason):
        fetch(tmp_path / "raw", server.url(kind))
    assert contents(tmp_path / "raw") == {}
    fetch(tmp_path / "raw", server.url(kind), server.url("good"))
    assert contents(tmp_path / "raw") == tiny.files


def test_a_hanging_and_a_dead_server_are_given_up_once(
    tiny: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "CONNECT_SECONDS", 0.3)
    start = time.monotonic()
    fetch(tmp_path / "raw", server.url("hanging"), closed_port_url(), server.url("good"))
    assert time.monotonic() - start < 2
    assert sum("hanging" in path for path in server.asked) == 1  # not once per file
    assert contents(tmp_path / "raw") == tiny.files


def test_a_transfer_that_stalls_is_left(
    tiny: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "STALL_SECONDS", 0.4)
    fetch(tmp_path / "raw", server.url("stalling"), server.url("good"))
    assert contents(tmp_path / "raw") == tiny.files


def test_many_silent_mirrors_share_one_deadline(
    tiny: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "CONNECT_SECONDS_IN_ALL", 1.0)
    places = [server.url("hanging") + f"{n}/" for n in range(6)]
    start = time.monotonic()
    with pytest.raises(SynthGainError) as error:
        fetch(tmp_path / "raw", *places)
    assert time.monotonic() - start < 2
    assert all(f"  {place}: no answer in " in str(error.value) for place in places)


def test_a_place_that_is_no_address_is_one_line(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(SynthGainError, match=r"http://\[bad/x: no URL \(Invalid IPv6 URL\)"):
        fetch(tmp_path / "raw", "http://[bad/x")


def test_the_default_deadline_is_below_half_a_minute() -> None:
    assert mirrors.CONNECT_SECONDS_IN_ALL < 30


def test_the_error_lists_every_place_and_three_ways_out(tiny: Any, server: Any, tmp_path: Path) -> None:
    dead, by_hand = closed_port_url(), tmp_path / "own"
    by_hand.mkdir()
    with pytest.raises(SynthGainError) as error:
        fetch(
            tmp_path / "raw", "/no/such/mirror", "ftp://host/x", server.url("missing"), dead, by_hand=by_hand
        )
    lines = str(error.value).splitlines()
    names = list(tiny.files)
    assert lines[0] == f"{names[0]}: not to be had; places tried, in order:"
    assert lines[1] == "  /no/such/mirror: no such folder"
    assert lines[2].startswith("  ftp://host/x: ftp:// is no mirror")
    assert lines[3] == f"  {server.url('missing')}: HTTP 404 Not Found"
    assert lines[4] == f"  {dead}: cannot be reached (Connection refused)"
    assert lines[5].startswith(f"  {by_hand}: no such file")
    assert lines[6] == "three ways out:"
    assert "SYNTHGAIN_MIRROR" in lines[7] and "data.mirrors" in lines[7]
    assert f"put {', '.join(names)} into {by_hand}" in lines[8]
    assert "make demo" in lines[9]
    assert len(lines) == 10


def test_files_in_place_are_verified_and_kept(tiny: Any, server: Any, tmp_path: Path) -> None:
    raw = tiny.put(tmp_path / "raw")
    said = fetch(raw, server.url("good"))
    assert server.asked == [] and all("checksum right" in line for line in said)

    name = next(iter(tiny.files))
    (raw / name).write_bytes(tiny.files[name][:-7])
    (raw / "stranger.txt").write_text("not ours, so it stays")
    said = fetch(raw, server.url("good"))
    assert server.asked == [f"/good/{name}"]
    assert said[0].startswith(f"{name}: refused from {raw}: altered or truncated (md5 expected ")
    assert contents(raw) == {**tiny.files, "stranger.txt": b"not ours, so it stays"}


def test_a_damaged_file_in_place_is_named_when_nothing_else_can_be_had(tiny: Any, tmp_path: Path) -> None:
    raw = tiny.put(tmp_path / "raw")
    name = list(tiny.files)[2]
    (raw / name).write_bytes(b"")
    with pytest.raises(SynthGainError) as error:
        fetch(raw)
    assert f"  {raw}: altered or truncated" in str(error.value)
    assert f"put {name} into" in str(error.value)  # only what is missing


def test_the_environment_variable_goes_first_and_the_folder_for_files_by_hand_is_looked_into(
    tiny: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(published.MIRROR_VARIABLE, server.url("good"))
    fetch(tmp_path / "raw", server.url("altered"))
    assert not any("altered" in path for path in server.asked)

    monkeypatch.setenv(published.MIRROR_VARIABLE, "/no/such/mirror")
    fetch(tmp_path / "raw2", by_hand=tiny.put(tmp_path / "own"))
    assert contents(tmp_path / "raw2") == tiny.files


class Guarded:
    """A server that gives the files to who sends the right header and query, and else says what it got."""

    def __init__(self, files: dict[str, bytes], sent: str, query: str) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, _, asked = self.path.partition("?")
                got = self.headers.get("Authorization") or ""
                is_known = (got.removeprefix("Basic "), asked) == (sent, query)
                content = files[path.rpartition("/")[2]]
                if not is_known:
                    self.send_error(403, f"you sent {got} to {self.path}")
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "Guarded":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.mark.parametrize(
    ("written", "user", "query"),
    [
        ("user:Qx7hunZk9ter@{}/mnist", "user:Qx7hunZk9ter", ""),
        ("user:Qx7hun@Zk9ter@{}/", "user:Qx7hun@Zk9ter", ""),
        ("user:Qx7hun%2FZk9ter@{}", "user:Qx7hun/Zk9ter", ""),
        ("user:Qx7h%C3%BCn%20Zk9ter@{}", "user:Qx7hün Zk9ter", ""),
        ("Qx7hunZk9ter@{}", "Qx7hunZk9ter:", ""),
        ("{}/mnist/?token=Qx7hunZk9ter", "", "token=Qx7hunZk9ter"),
    ],
)
def test_a_mirror_gets_its_password_and_nobody_else_sees_it(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, user: str, query: str
) -> None:
    sent = base64.b64encode(user.encode()).decode() if user else ""
    with Guarded(tiny.files, sent, query) as right, Guarded(tiny.files, "other", "x=1") as wrong:
        monkeypatch.setenv(published.MIRROR_VARIABLE, "http://" + written.format(right.host))
        said = "\n".join(fetch(tmp_path / "raw"))
        assert contents(tmp_path / "raw") == tiny.files
        monkeypatch.setenv(published.MIRROR_VARIABLE, "http://" + written.format(wrong.host))
        with pytest.raises(SynthGainError) as caught:
            fetch(tmp_path / "other")
    assert "HTTP 403 you sent" in str(caught.value)
    for secret in ("Qx7h", "Zk9ter", *([sent] if sent else [])):
        assert secret not in said + str(caught.value)


@pytest.mark.parametrize(
    "written",
    ["user:Qx7hun/Zk9ter@{}", "user:1/Qx7hunZk9ter@{}", "user:Qx7hun#Zk9ter@{}", "user:Qx7?Zk9ter@{}"],
)
def test_a_password_that_cuts_the_address_in_two_is_refused_and_not_shown(
    tiny: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    address = "http://" + written.format(server.url("good").removeprefix("http://"))
    monkeypatch.setenv(published.MIRROR_VARIABLE, address)
    with pytest.raises(SynthGainError, match="write it percent-encoded") as caught:
        fetch(tmp_path / "raw")
    assert "Qx7" not in str(caught.value) and "Zk9ter" not in str(caught.value)
    assert not server.asked


def test_a_redirection_does_not_get_the_password(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            if "elsewhere" in self.path:
                self.send_error(404)
                return
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{listening.server_port}/elsewhere")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with pytest.raises(SynthGainError, match="HTTP 404"):
            fetch(tmp_path / "raw", f"http://user:secret@localhost:{listening.server_port}/")
        listening.shutdown()
        thread.join()
    assert seen == [f"Basic {base64.b64encode(b'user:secret').decode()}", None]


@pytest.mark.parametrize("place", ["ftp://user:Qx7hunZk9ter@host/", "http://host:0/?token=Qx7hunZk9ter", ""])
def test_a_redirect_shows_no_password_and_is_one_line(tiny: Any, tmp_path: Path, place: str) -> None:
    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", place or self.path)  # to itself: without end
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Redirecting) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with pytest.raises(SynthGainError) as caught:
            fetch(tmp_path / "raw", f"http://127.0.0.1:{listening.server_port}/")
        listening.shutdown()
        thread.join()
    (line,) = [line for line in str(caught.value).splitlines() if f":{listening.server_port}/: " in line]
    assert "Qx7hun" not in line
    assert "HTTP 302" in line or "cannot be reached" in line
