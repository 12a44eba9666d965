import re
import time

import pytest

from pipeline.runtime import progress as module
from pipeline.runtime.progress import counted, progress


def test_off_a_terminal_there_is_a_line_now_and_then(capsys, monkeypatch):
    clock = iter([0.0, *range(1, 100)])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("GAN", total=40, unit="images") as advance:
        for _ in range(40):
            advance(1, "D 0.5")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # 40 seconds, one line per 15
    assert lines[0] == "GAN: 38%, 1 images/s, 25 s left  D 0.5"


def test_the_pace_is_that_of_the_last_minute():
    pace = module._Pace()
    assert pace.after(900, 0) is None  # what a killed run had done
    assert pace.after(910, 10) == 1
    assert pace.after(1910, 11) > 90  # another training goes on, too
    for now in range(12, 200):
        found = pace.after(1910 + 2 * (now - 11), now)
    assert found == 2 and len(pace.reports) < 70


def test_what_a_killed_run_had_done_is_no_part_of_the_pace(capsys, monkeypatch):
    clock = iter([0.0, *range(1, 100)])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("GAN", total=1000, unit="images") as advance:
        advance(900)  # at once
        for _ in range(20):
            advance(1)
    assert capsys.readouterr().err.splitlines() == ["GAN: 91%, 1 images/s, 86 s left  "]


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    with progress("GAN", total=4000, unit="images") as advance:
        advance(3000)
        time.sleep(0.1)
        advance(1000, "D 0.5")
    shown = capsys.readouterr().err
    last = re.search(r"GAN.*100 %.* ([\d,]+) images/s.*D 0\.5", shown, re.DOTALL)
    # Of the thousand since, in a tenth of a second or, on a busy machine, more.
    assert last and 0 < int(last[1].replace(",", "")) <= 10_000


@pytest.mark.parametrize("is_terminal", [True, False])
def test_of_nothing_there_is_no_bar(capsys, monkeypatch, is_terminal):
    """It would stay at 0 %, as that of train_fill in a study without rare classes."""
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: is_terminal, raising=False)
    with progress("rare classes filled", total=0, unit="steps") as advance:
        advance(0)
    assert capsys.readouterr().err == ""


def test_one_is_singular():
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(n, "class") for n in (1, 2)] == ["1 class", "2 classes"]
