"""A progress bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

# In a log file a line per step would be noise, and silence would look like a hang.
_SECONDS_BETWEEN_LINES = 15.0
_SECONDS_OF_PACE = 60.0


def counted(number: int, noun: str) -> str:
    """`1 image`, `2 images`: a number with its noun."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}es" if noun.endswith(("s", "x", "ch")) else f"{number} {noun}s"


class Advance(Protocol):
    """Report `units` more done, with a word on how it goes (`"D 0.61 G 0.88"`); from any thread."""

    def __call__(self, units: float, note: str = "") -> None: ...


def unheard(units: float, note: str = "") -> None:
    """An `Advance` for work that is short beside what a bar counts."""


@contextmanager
def progress(label: str, total: float, unit: str) -> Iterator[Advance]:
    """Show how far `what` is: units done of `total`, units per second, time left, and the last note.

    The pace is that of the last minute, without the first report, with which a training that goes on says what a
    killed one had done.
    """
    if not total:  # a bar of nothing would stay at 0 %
        yield unheard
        return
    with _terminal_bar(label, total, unit) if sys.stderr.isatty() else _lines(label, total, unit) as advance:
        yield advance


@contextmanager
def _terminal_bar(label: str, total: float, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    pace = _Pace()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, speed="", note="")

        def advance(units: float, note: str = "") -> None:
            rate = pace.after(bar.tasks[task].completed + units, time.monotonic())
            speed = f"{rate:,.0f} {unit}/s" if rate else ""
            bar.update(task, advance=units, speed=speed, note=note or bar.tasks[task].fields["note"])

        yield advance


@contextmanager
def _lines(label: str, total: float, unit: str) -> Iterator[Advance]:
    last = time.monotonic()
    done = 0.0
    pace = _Pace()
    turn = threading.Lock()

    def advance(units: float, note: str = "") -> None:
        nonlocal done, last
        with turn:
            done += units
            now = time.monotonic()
            rate = pace.after(done, now)
            if now - last < _SECONDS_BETWEEN_LINES:
                return
            last = now
            speed = f", {rate:,.0f} {unit}/s, {(total - done) / rate:.0f} s left" if rate else ""
            print(f"{label}: {done / total:.0%}{speed}  {note}", file=sys.stderr, flush=True)

    yield advance


class _Pace:
    """Units per second of the last minute.

    Not of the whole time: what a killed run had done is reported at once, by each of several trainings in its turn.
    """

    def __init__(self) -> None:
        self.reports: deque[tuple[float, float]] = deque()  # units done and when, a second apart or more

    def after(self, done: float, now: float) -> float | None:
        """The pace now that `done` units are reported; None if there is none yet."""
        if not self.reports or now - self.reports[-1][1] >= 1:
            self.reports.append((done, now))
        while len(self.reports) > 2 and now - self.reports[1][1] >= _SECONDS_OF_PACE:
            self.reports.popleft()
        before, since = self.reports[0]
        return (done - before) / (now - since) if done > before and now > since else None
