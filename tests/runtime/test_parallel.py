"""Work in several processes: the same results as in one, and nothing is left of it when it ends badly."""

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.errors import SynthGainError
from pipeline.runtime.device import Workers
from pipeline.runtime.parallel import parallel_map

ROOT = Path(__file__).parents[2]


# A file of its own: workers have to find these functions by the name of their module.
WORK = """
import os, signal, sys, time
from pipeline.errors import SynthGainError

def imported_torch(job, advance):
    return "torch" in sys.modules

def squared(job, advance):
    advance(0.5)
    advance(0.5, f"job {job}")
    return job * job, os.getpid()

def refused(job, advance):
    if job == 1:
        raise SynthGainError("one is not allowed")
    time.sleep(60)

def killed(job, advance):
    os.kill(os.getpid(), signal.SIGKILL)

def told(job, advance):
    return os.environ.get(job)
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    (tmp_path / "work_side_by_side.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("work_side_by_side")
    del sys.modules["work_side_by_side"]


def workers(processes):
    """Without a device: a worker that has one imports torch for a second."""
    return Workers(processes, threads=1, device=None)


def run(function, jobs, processes, advance=lambda units, note="": None):
    return list(parallel_map(function, jobs, workers=workers(processes), advance=advance))


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_jobs_and_progress_adds_up(work, processes):
    told = []
    pairs = run(work.squared, range(7), processes, lambda units, note="": told.append((units, note)))
    assert [(job, result[0]) for job, result in pairs] == [(job, job * job) for job in range(7)]
    assert sum(units for units, _ in told) == 7
    assert {note for _, note in told} >= {"job 6"}
    workers = {pid for _, (_, pid) in pairs}
    assert workers == {os.getpid()} if processes == 1 else os.getpid() not in workers


# Imports a module that waits until two processes import it, if they do within some seconds.
PRELOADED = """
import sys
from pathlib import Path
from pipeline.params import load_params
from pipeline.runtime.parallel import preload_workers

execution = load_params(Path("params.yaml")).execution
preload_workers("slow_work", execution.model_copy(update={"threads": 2, "processes": int(sys.argv[1])}), trainings=2)
import slow_work
print(slow_work.IMPORTING)
"""
SLOW_WORK = """
import os, time
from pathlib import Path

marks = Path(__file__).parent / "importing"
(marks / str(os.getpid())).touch()
until = time.monotonic() + {seconds}
while len(list(marks.iterdir())) < 2 and time.monotonic() < until:
    time.sleep(0.05)
IMPORTING = len(list(marks.iterdir()))
"""


@pytest.mark.parametrize(("processes", "seconds"), [(2, 60), (1, 2)])
def test_workers_import_their_module_while_this_process_does(processes, seconds, tmp_path):
    (tmp_path / "importing").mkdir()
    (tmp_path / "slow_work.py").write_text(SLOW_WORK.format(seconds=seconds))
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-c", PRELOADED, str(processes)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{processes}\n"


def test_what_stages_preload_is_where_their_workers_find_their_work():
    """Python's fork server says nothing of a module that is not there, and workers would import all of it again."""
    files = [*ROOT.glob("stages/*.py"), ROOT / "pipeline/classifier/declared_arms.py"]
    preloaded = {
        name for file in files for name in re.findall(r'preload_workers\(\s*"(.+?)"', file.read_text())
    }
    assert len(preloaded) == 4
    for name in preloaded:
        assert " parallel_map(" in Path(ROOT / f"{name.replace('.', '/')}.py").read_text(), name


def test_a_worker_that_was_killed_before_the_next_job_is_one_line_too(work):
    """The pool knows it already when that job is handed in, and raises there."""

    def jobs():
        yield 0
        time.sleep(3)  # it is dead by then; if not, the result says so
        yield 1

    with pytest.raises(SynthGainError, match="a worker was killed, perhaps for want of memory"):
        run(work.killed, jobs(), processes=2)


def test_a_worker_without_a_device_does_not_import_torch(work):
    """In a process of its own: the fork server of this one may have imported torch for another test."""
    code = (
        "import torch, work_side_by_side as work\n"
        "from pipeline.runtime.device import Workers\n"
        "from pipeline.runtime.parallel import parallel_map\n"
        "for device in (None, torch.device('cpu')):\n"
        "    done = parallel_map(work.imported_torch, [1, 2], workers=Workers(2, 1, device), advance=lambda *_: None)\n"
        "    print([result for _, result in done])\n"
    )
    paths = os.pathsep.join([str(Path(work.__file__).parent), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["[False, False]", "[True, True]"]


def test_jobs_are_made_as_they_are_needed(work):
    """A job holds its images: all of them at once would be too many."""
    made = []
    done = parallel_map(
        work.squared,
        (made.append(job) or job for job in range(20)),
        workers=workers(2),
        advance=lambda units, note="": None,
    )
    for number, _ in enumerate(done):
        assert len(made) <= number + 2 * 2 + 1


def test_an_error_ends_the_other_workers_at_once(work):
    start = time.monotonic()
    with pytest.raises(SynthGainError, match="one is not allowed"):
        run(work.refused, [1, 2], 2)
    assert time.monotonic() - start < 30  # the other one would have slept for a minute


def test_a_killed_worker_is_one_clear_line(work):
    with pytest.raises(SynthGainError, match=r"a worker was killed.*fewer execution.processes"):
        run(work.killed, [1, 2], 2)


SCRIPT = """
import time
from pathlib import Path
from pipeline.runtime.device import Workers
from pipeline.runtime.parallel import parallel_map
from stages.command import run

def work(job, advance):
    Path(f"at work {job}").touch()
    time.sleep(100)

def main() -> None:
    list(parallel_map(work, [1, 2], workers=Workers(2, 1, None), advance=print))

if __name__ == "__main__":
    run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    "number, status, said",
    [
        (signal.SIGKILL, -signal.SIGKILL, ""),
        (
            signal.SIGINT,
            130,
            "interrupted: nothing half-written is left behind; the same command starts again",
        ),
        pytest.param(
            signal.SIGTERM,
            143,
            "ended: nothing half-written is left behind; the same command starts again",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_no_worker_outlives_what_started_it(tmp_path, number, status, said):
    """A SIGKILL of the one process; Ctrl-C and SIGTERM of the whole group, as from a terminal."""
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 90
    while len(list(tmp_path.glob("at work *"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3  # two workers and what starts them
    if number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    if number != signal.SIGKILL:  # then Python says that it has tidied up
        assert errors.strip() == said
    _, left = psutil.wait_procs(family, timeout=60)
    assert [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []


SLOW_TO_IMPORT = """
import os, time
from pathlib import Path
Path("importing").touch()
time.sleep(3)

def work(job, advance):
    return job
"""
STARTS = """
from pipeline.runtime.device import Workers
from pipeline.runtime.parallel import parallel_map
from stages.command import run

def main() -> None:
    import sys
    sys.path.insert(0, ".")
    import types
    work = types.ModuleType("slow_to_import")  # this process has it already
    exec("def work(job, advance): return job", work.__dict__)
    work.work.__module__ = "slow_to_import"
    sys.modules["slow_to_import"] = work
    list(parallel_map(work.work, [1, 2], workers=Workers(2, 1, None), advance=print))

if __name__ == "__main__":
    run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    "number, status", [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_while_the_workers_are_started_is_one_line(tmp_path, number, status):
    """The fork server imports a module for seconds, and would print a traceback of its own."""
    (tmp_path / "slow_to_import.py").write_text(SLOW_TO_IMPORT)
    (tmp_path / "script.py").write_text(STARTS)
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 90
    while not (tmp_path / "importing").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert errors.count("\n") == 1 and "nothing half-written is left behind" in errors
    _, left = psutil.wait_procs(family, timeout=60)
    assert [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts a tmpfs")
@pytest.mark.parametrize("options", ["nr_inodes=1", "ro"])
def test_locks_that_cannot_be_made_name_their_place(options):
    """In a mount namespace of its own: a full /dev/shm, and a read-only one."""
    code = (
        "from pipeline.runtime.device import Workers\n"
        "from pipeline.runtime.parallel import parallel_map\n"
        "list(parallel_map(print, [1, 2], workers=Workers(2, 1, None), advance=print))\n"
    )
    command = f'mount -t tmpfs -o {options} none /dev/shm || exit 77; exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command, sys.executable, code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert "SynthGainError: /dev/shm: no locks between worker processes can be made" in done.stderr
    assert "execution.processes" in done.stderr


def test_workers_have_the_environment_of_their_caller(work, monkeypatch):
    """Not that of the first pool of the process, whose fork server serves them all: an address may have changed."""
    for value in ("first", "second"):
        monkeypatch.setenv("TOLD", value)
        results = parallel_map(
            work.told, ["TOLD"] * 2, workers=Workers(2, 1, None), advance=lambda units, note="": None
        )
        assert [told for _, told in results] == [value] * 2
