"""A program that misbehaves ends in one line, in time, with a log of bounded size, and leaves nothing running."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.foreign import program
from pipeline.foreign.program import ProgramFailed, run_program


@pytest.fixture
def run(tmp_path):
    """A function that runs a Python program, `OUT` in it being the folder to write into; it gives the log."""

    def run(code, *, seconds=60.0, most_bytes=1_000_000, program=None):
        out, log = tmp_path / "out", tmp_path / "logs/program.log"
        out.mkdir(exist_ok=True)
        arguments = program or ["python", "-c", code.replace("OUT", repr(str(out)))]
        run_program(arguments, out=out, log=log, seconds=seconds, most_bytes=most_bytes)
        return log.read_text()

    return run


def test_python_is_the_one_that_runs_this_and_the_output_is_in_the_log(run):
    said = run("import sys; print(sys.executable); print('on stderr', file=sys.stderr)")
    assert os.path.realpath(said.splitlines()[0]) == os.path.realpath(sys.executable)
    assert "on stderr" in said


def test_no_shell_reads_the_arguments(run, tmp_path):
    said = run(
        "", program=["python", "-c", "import sys; print(sys.argv[1:])", "$(touch x)", "; touch y", "*"]
    )
    assert said.strip() == "['$(touch x)', '; touch y', '*']"
    assert not (Path.cwd() / "x").exists() and not (Path.cwd() / "y").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; print('no GPU'); sys.exit(3)", r'^ended with exit status 3; its last line: "no GPU"; '),
        ("import os; os.kill(os.getpid(), 9)", r"^ended with signal SIGKILL; it printed nothing; "),
        ("raise ValueError('shape')", r'exit status 1; its last line: "ValueError: shape"'),
    ],
)
def test_what_fails_says_how_and_where_its_output_is(run, tmp_path, code, words):
    with pytest.raises(ProgramFailed, match=words) as failed:
        run(code)
    assert str(failed.value).endswith(f"its output is in {tmp_path / 'logs/program.log'}")
    assert "\n" not in str(failed.value)


def test_a_program_that_is_not_there(run):
    with pytest.raises(
        ProgramFailed, match=r"^cannot be started: no_such_program: No such file or directory$"
    ):
        run("", program=["no_such_program"])


def test_the_time_limit_ends_it_and_what_it_started(run, tmp_path):
    code = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        " print(p.pid, flush=True); time.sleep(600)"
    )
    with pytest.raises(ProgramFailed, match=r"^was still running after 0\.02 minutes \(generator\.minutes\)"):
        run(code, seconds=1.2)
    pid = int((tmp_path / "logs/program.log").read_text())
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_it_leaves_in_the_background_is_no_reason_to_wait(run):
    """A child that holds the pipe would keep a reader for ever."""
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    start = time.monotonic()
    run(code)
    assert time.monotonic() - start < 300


def test_a_log_of_megabytes_keeps_its_beginning_and_its_end(run, tmp_path):
    code = "print('first'); print(('x' * 99 + chr(10)) * 50_000); print('last'); raise SystemExit(1)"
    with pytest.raises(ProgramFailed, match='its last line: "last"'):
        run(code)
    log = (tmp_path / "logs/program.log").read_text()
    assert log.startswith("first\n") and log.endswith("last\n") and "bytes are left out here" in log
    assert len(log) < 1_200_000


def test_a_last_line_without_an_end_is_cut(run):
    with pytest.raises(ProgramFailed) as failed:
        run("print('x' * 100_000, end=''); raise SystemExit(1)")
    assert len(str(failed.value)) < 500


def test_a_program_that_fills_the_disk_is_ended(run, monkeypatch):
    monkeypatch.setattr(program, "_SECONDS_BETWEEN_SIZES", 0.1)
    code = "import time; f = open(OUT + '/big', 'wb'); f.truncate(20_000_000_000); time.sleep(600)"
    with pytest.raises(
        ProgramFailed, match=r"^wrote 20,000 MB, and 1 MB are allowed for these images, and was ended"
    ):
        run(code)


def test_an_exception_ends_the_program(run, tmp_path, monkeypatch):
    """Ctrl-C in a stage: the program has a session of its own, and would not hear it."""

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "_watch", interrupted)
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(KeyboardInterrupt):
        run("import time; time.sleep(600)")
    assert {child.pid for child in psutil.Process().children()} <= before
