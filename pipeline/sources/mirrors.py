"""Files with a published checksum, from the first of several places that gives them unaltered.

The library for this, pooch, fetches one file from one address. It knows no mirrors in order and no local folders, and
does not bound the time: a server that sent its answer byte by byte held it for 25 s, with timeouts of 1 and 2 s.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import queue
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from pipeline.errors import SynthGainError
from pipeline.redaction import without_secrets
from pipeline.runtime.outputs import atomic_output
from pipeline.runtime.progress import Advance, progress

# All waiting for places that do not answer, together: an unreachable network is known within half a minute.
CONNECT_SECONDS_IN_ALL = 25.0
CONNECT_SECONDS = 8.0
STALL_SECONDS = 10.0  # a transfer that is under way may take its time, but not without one byte in this long
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class PublishedFile:
    """A file as its publisher names it, with the MD5 sum or the SHA-256 of its bytes, in hexadecimal digits."""

    name: str
    checksum: str

    @property
    def algorithm(self) -> Literal["md5", "sha256"]:
        """Which of the two it is, by its length."""
        return "md5" if len(self.checksum) == 32 else "sha256"

    def difference(self, found: str, size: int) -> str | None:
        """In words how a file of this checksum and size differs from the published one; None if it does not."""
        if found == self.checksum:
            return None
        return (
            f"altered or truncated ({self.algorithm} expected {self.checksum}, found {found}, {size} bytes)"
        )


class _Unavailable(Exception):
    """Why one place did not give one file, in one line; `for_good` if it need not be asked for another."""

    def __init__(self, reason: str, *, for_good: bool = False, altered: bool = False) -> None:
        # A server's own words may be of several lines, and hold the address that it redirects to.
        super().__init__(without_secrets(" ".join(reason.split())))
        self.for_good = for_good
        self.altered = altered


def checksum_of(path: Path, published: PublishedFile) -> str:
    """The checksum of a file's bytes, by the algorithm of the published one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: _hasher(published)).hexdigest()


def _hasher(published: PublishedFile) -> Any:
    # MD5 is what most publishers give: against damage, and not against malice.
    return hashlib.new(published.algorithm, usedforsecurity=False)


def fetch_files(
    files: Sequence[PublishedFile],
    out: Path,
    *,
    mirrors: Sequence[str],
    dataset: str,
    advice: Callable[[list[str]], list[str]],
    say: Callable[[str], None],
) -> None:
    """Put every file into `out`, each verified against its checksum.

    A file that is already in `out` stays if its checksum is right. Else the mirrors are asked in order. A
    local folder may hold the files in `<dataset>/raw/`, in `<dataset>/`, or directly. A transfer that moves
    may take as long as it needs; waiting for places that do not answer ends after `CONNECT_SECONDS_IN_ALL`.

    Args:
        files: what is needed.
        out: an existing folder.
        mirrors: base URLs (http, https, file) or local folders.
        dataset: the name of the data set's folder in a local mirror (`FashionMNIST`).
        advice: the last lines of the error, from the names of the missing files.
        say: gets a line per file, per remote mirror asked, and per refused file; none shows a password.

    Raises:
        SynthGainError: with every mirror and its reason, if a file was not to be had.
    """
    patience = CONNECT_SECONDS_IN_ALL
    given_up: dict[str, str] = {}  # mirror -> why it is not asked again
    for position, file in enumerate(files):
        reasons: dict[str, str] = {}
        target = out / file.name
        if target.is_file():
            problem = file.difference(checksum_of(target, file), target.stat().st_size)
            if problem is None:
                say(f"{file.name}: in place in {out}, checksum right")
                continue
            reasons[str(out)] = problem
            say(f"{file.name}: refused from {out}: {problem}; fetching it again")
        for turn, mirror in enumerate(mirrors):
            shown = without_secrets(mirror)
            if mirror in given_up:
                reasons[shown] = given_up[mirror]
                continue
            still_to_ask = sum(_is_remote(other) and other not in given_up for other in mirrors[turn:])
            wait = min(CONNECT_SECONDS, patience / max(1, still_to_ask))
            if _is_remote(mirror):
                say(f"{file.name}: asking {shown}")
            start = time.monotonic()
            try:
                _fetch(file, target, mirror, dataset, wait)
            except _Unavailable as failure:
                reasons[shown] = str(failure)
                if failure.altered:
                    say(f"{file.name}: refused from {shown}: {failure}")
                if failure.for_good:
                    given_up[mirror] = str(failure)
                    patience -= min(wait, time.monotonic() - start)
                continue
            say(f"{file.name}: from {shown}, checksum right")
            break
        else:
            missing = [other.name for other in files[position:] if not _is_there(other, out)]
            lines = [f"{file.name}: not to be had; places tried, in order:"]
            lines += [f"  {place}: {reason}" for place, reason in reasons.items()]
            raise SynthGainError("\n".join(lines + advice(missing)))


def _is_there(file: PublishedFile, folder: Path) -> bool:
    return (folder / file.name).is_file() and checksum_of(folder / file.name, file) == file.checksum


def _is_remote(mirror: str) -> bool:
    return "://" in mirror and not mirror.startswith("file://")


def _fetch(file: PublishedFile, target: Path, mirror: str, dataset: str, wait: float) -> None:
    """One file from one mirror to `target`, or `_Unavailable`."""
    try:
        parts = urlsplit(mirror)
    except ValueError as error:
        raise _Unavailable(f"no URL ({error})", for_good=True) from None
    scheme = parts.scheme
    if _is_remote(mirror) and scheme not in ("http", "https"):
        raise _Unavailable(
            f"{scheme}:// is no mirror; a base URL (http, https) or a local folder is", for_good=True
        )
    if _is_remote(mirror) and _may_be_cut(parts):
        raise _Unavailable(
            "a user or password in it holds one of / ? #; write it percent-encoded (%2F %3F %23)",
            for_good=True,
        )
    with atomic_output(target) as temporary:
        if _is_remote(mirror):
            chunks = _download(_request(parts, file.name), file.name, wait)
        else:
            folder = (
                Path(url2pathname(urlsplit(mirror).path)) if scheme == "file" else Path(mirror).expanduser()
            )
            chunks = _copy(folder, file.name, dataset)
        digest, size = _hasher(file), 0
        with temporary.open("wb") as destination:
            for chunk in chunks:
                destination.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        if problem := file.difference(digest.hexdigest(), size):
            raise _Unavailable(problem, altered=True)


def _may_be_cut(parts: SplitResult) -> bool:
    """Whether what is taken for host and port is rather the begin of a user and password."""
    _, at, host = parts.netloc.rpartition("@")
    try:
        parts.port  # noqa: B018  # raises for one that is no number
    except ValueError:
        return True
    rest = f"{parts.path}{parts.query}{parts.fragment}"
    return not at and ":" in host and "@" in rest


def _copy(folder: Path, name: str, dataset: str) -> Iterator[bytes]:
    if not folder.is_dir():
        raise _Unavailable("no such folder", for_good=True)
    # The data set's own subfolder first: every data set of this family has files of the same names.
    for place in (folder / dataset / "raw" / name, folder / dataset / name, folder / name):
        if place.is_file():
            break
    else:
        raise _Unavailable(f"no such file there, in {dataset}/raw or in {dataset}")
    try:
        with place.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except PermissionError:
        raise _Unavailable("no permission to read the file") from None


def _request(mirror: SplitResult, name: str) -> urllib.request.Request:
    """For a file of a mirror: a query stays behind its name, user and password go with it and not to a redirection."""
    userinfo, _, host = mirror.netloc.rpartition("@")
    url = urlunsplit((mirror.scheme, host, f"{mirror.path.rstrip('/')}/{name}", mirror.query, ""))
    request = urllib.request.Request(url, headers={"User-Agent": "synthgain"})
    if userinfo:
        user, _, password = userinfo.partition(":")
        sent = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {sent}")
    return request


def _download(request: urllib.request.Request, name: str, wait: float) -> Iterator[bytes]:
    with _open(request, wait) as response:
        length = int(response.headers.get("Content-Length") or 0)
        # Without a length there is nothing to show a share of.
        shown: AbstractContextManager[Advance | None] = (
            progress(name, length / 1024, "KiB") if length else nullcontext()
        )
        received = 0
        with shown as advance:
            while True:
                try:
                    chunk = response.read1(_CHUNK_BYTES)
                except TimeoutError:
                    reason = f"no byte in {STALL_SECONDS:.0f} s after {received} of {length or '?'} bytes"
                    raise _Unavailable(reason, for_good=True) from None
                except (OSError, http.client.HTTPException) as error:
                    raise _Unavailable(
                        f"broke off after {received} of {length or '?'} bytes ({error})"
                    ) from None
                if not chunk:
                    return
                received += len(chunk)
                if advance:
                    advance(len(chunk) / 1024)
                yield chunk


def _open(request: urllib.request.Request, wait: float) -> Any:
    """The response, with its headers read, within `wait` seconds."""
    outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            outcome.put(urllib.request.urlopen(request, timeout=STALL_SECONDS))
        except Exception as error:  # handed to the thread that waits
            outcome.put(error)

    # A name that does not resolve, or an address that swallows packets, keeps to no timeout of a socket: the
    # asking thread may be left behind, and as a daemon it does not keep the process alive.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = outcome.get(timeout=wait)
    except queue.Empty:
        raise _Unavailable(f"no answer in {wait:.0f} s", for_good=True) from None
    if isinstance(answer, urllib.error.HTTPError):
        with answer:
            raise _Unavailable(f"HTTP {answer.code} {answer.reason}")
    if isinstance(answer, urllib.error.URLError):
        reason = answer.reason
        words = (
            reason.strerror if isinstance(reason, socket.gaierror | OSError) and reason.strerror else reason
        )
        raise _Unavailable(f"cannot be reached ({words})", for_good=True)
    if isinstance(answer, OSError | http.client.HTTPException | ValueError):
        raise _Unavailable(f"cannot be reached ({answer or type(answer).__name__})", for_good=True)
    if isinstance(answer, Exception):
        raise answer
    return answer
