"""A deadline for each answer of a tracking server: one that sends a byte a second never runs into a timeout."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from mlflow.tracking.request_header import registry
from mlflow.tracking.request_header.abstract_request_header_provider import RequestHeaderProvider

SECONDS = 15.0  # for an answer as a whole, its retries included; MLflow's own timeout is between two bytes
_AT_ONCE = 0.01


class NoAnswer(Exception):
    """No whole answer within the deadline. No OSError: those are tried again."""


class _Watch:
    """Starts the clock anew with each request; once it has run down, no other request gets more time."""

    def __init__(self) -> None:
        self.is_on = self.has_ended = False

    def begin_request(self) -> None:
        if self.is_on:
            signal.setitimer(signal.ITIMER_REAL, _AT_ONCE if self.has_ended else SECONDS)

    def end(self, number: int, frame: FrameType | None) -> NoReturn:
        self.has_ended = True
        raise NoAnswer(f"no whole answer within {SECONDS:g} seconds")


_watch = _Watch()


class _BeginsRequest(RequestHeaderProvider):
    """MLflow asks its providers of headers at the beginning of every request; this one adds none."""

    def in_context(self) -> bool:
        return True

    def request_headers(self) -> dict[str, str]:
        _watch.begin_request()
        return {}


registry._request_header_provider_registry.register(_BeginsRequest)  # type: ignore[no-untyped-call]


@contextmanager
def deadline_of_answers() -> Iterator[None]:
    """In the block, a request of MLflow ends within `SECONDS`; in the main thread of a system that has alarms.

    Raises:
        NoAnswer: where MLflow does not make it an MlflowException of the same words.
    """
    has_alarms = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    if _watch.is_on or not has_alarms:
        yield
        return
    before = signal.signal(signal.SIGALRM, _watch.end)
    _watch.is_on, _watch.has_ended = True, False
    try:
        yield
    finally:
        _watch.is_on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
