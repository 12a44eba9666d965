import errno
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pipeline.errors import SynthGainError
from stages.command import report_errors


def fails_with(error):
    def app():
        raise error

    return app


@pytest.mark.parametrize(
    "error, status, lines",
    [
        (SynthGainError("a: b"), 1, ["error: a: b"]),
        (SynthGainError("a: b\nc: d"), 1, ["error: a: b", "error: c: d"]),
        (
            OSError(errno.ENOSPC, "No space left on device", "data/x"),
            1,
            ["error: the disk is full, or a quota reached ([Errno 28]"],
        ),
        (MemoryError(), 1, ["error: out of memory"]),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, ["error: out of memory"]),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            1,
            ["error: out of memory"],
        ),
        (RuntimeError("can't start new thread"), 1, ["error: out of memory"]),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 1, ["error: out of memory"]),
        (
            RuntimeError("PytorchStreamWriter failed writing file: file write failed"),
            1,
            ["error: the disk is"],
        ),
        (PermissionError(errno.EACCES, "Permission denied", "data/x"), 1, ["error: [Errno 13]"]),
        (
            ZeroDivisionError("1/0\nand more"),
            70,
            ["error: a fault of the program: ZeroDivisionError at test_com"],
        ),
        (KeyboardInterrupt(), 130, ["interrupted"]),
    ],
)
def test_what_a_user_can_mend_is_told_in_a_line_each(capsys, error, status, lines):
    with pytest.raises(SystemExit) as caught:
        report_errors(fails_with(error))
    assert caught.value.code == status
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == len(lines)
    assert all(found.startswith(wanted) for found, wanted in zip(printed, lines, strict=True))


def test_the_traceback_is_shown_on_request_only(capsys, monkeypatch):
    for arguments, variable, shown in (
        (["x"], "", False),
        (["x", "--debug", "y"], "", True),
        (["x"], "1", True),
    ):
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.setenv("SYNTHGAIN_DEBUG", variable)
        with pytest.raises(SystemExit):
            report_errors(fails_with(SynthGainError("a: b")))
        printed = capsys.readouterr().err
        assert ("Traceback" in printed) == shown
        assert printed.endswith("error: a: b\n")
        assert sys.argv == [part for part in arguments if part != "--debug"]


def test_a_ctrl_c_that_typer_swallowed_is_told_all_the_same(capsys):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(fails_with(KeyboardInterrupt()))
    with pytest.raises(SystemExit) as caught:
        report_errors(lambda: app([]))
    assert caught.value.code == 130
    assert capsys.readouterr().err.splitlines()[0].startswith("interrupted: nothing half-written")


STAGE = """
import sys, time
from pathlib import Path
from pipeline.runtime.outputs import atomic_output
from stages.command import run

def main() -> None:
    with atomic_output(Path(sys.argv[0])) as temporary:
        temporary.write_text("half")
        print("working", flush=True)
        time.sleep(60)

sys.argv = [sys.argv[1]]
run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    "number, status, words", [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended")]
)
def test_a_signal_leaves_one_line_and_nothing_half_written(tmp_path, number, status, words):
    out = tmp_path / "out"
    out.write_text("before")
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE, str(out)],
        cwd=Path(__file__).parents[2],
        env={key: value for key, value in os.environ.items() if key != "DVC_STAGE"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "working\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert re.fullmatch(f"{words}: nothing half-written is left behind; .*\n", errors)
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and out.read_text() == "before"


IMPORTS = """
import time
from stages.command import run

def main() -> None:
    import slow_to_import
    time.sleep(60)

run(main)
"""
WAITS = "print('importing', flush=True); time.sleep(0.5)"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "body",
    [
        f"import time\ntry:\n    {WAITS}\nexcept BaseException:\n    pass",  # the signal is lost
        f'import time\nexec("{WAITS}")',  # Python then ends itself by the signal, whatever status is asked for
    ],
)
def test_a_signal_within_an_import_is_neither_lost_nor_fatal(tmp_path, number, status, body):
    (tmp_path / "slow_to_import.py").write_text(body)
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert errors.count("\n") == 1 and "nothing half-written is left behind" in errors


@pytest.mark.parametrize("megabytes", [700, 2000])
def test_torch_under_a_limit_of_memory_is_one_line(megabytes):
    """The library is not found to be damaged, nor is the program: there is no room to load it."""
    limit = megabytes * 2**20
    model = "tests/data/v0.1.0/generator.safetensors"
    command = ["generate", "--model", model, "--per-class", "1", "--out", "no/where.npz"]
    done = subprocess.run(
        [sys.executable, "-c", "import synthgain.app; synthgain.app.main()", *command],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 1 and done.stderr.startswith("error: out of memory"), done.stderr
    assert len(done.stderr.splitlines()) == 1
