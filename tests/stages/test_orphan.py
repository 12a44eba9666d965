"""A stage ends with the DVC that started it, at whatever moment that one is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="a stage is tied to DVC on Linux"
)

STAGE = """
import os, signal, sys, time
from pathlib import Path
from stages.command import run

def main() -> None:
    if "deaf" in sys.argv[0]:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    Path(sys.argv[0]).write_text("working")
    time.sleep(60)

Path(sys.argv[1]).write_text(str(os.getpid()))
parent = os.getppid()
while sys.argv[2] == "late" and os.getppid() == parent:
    time.sleep(0.01)
sys.argv = [sys.argv[3]]
run(main)
"""
PARENT = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], env={**os.environ, "DVC_STAGE": "train_gan@60"})
time.sleep(60)
"""


@pytest.mark.parametrize("when", ["late", "at work", "deaf"])
def test_a_stage_dies_with_its_parent(tmp_path, when):
    """`late`: the parent is killed before the stage could ask to be told. `deaf`: SIGTERM alone does not end it."""
    pid_file, sign = tmp_path / "pid", tmp_path / f"sign {when}"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, STAGE, str(pid_file), when, str(sign)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "DVC_STAGE"},
        start_new_session=True,
    )
    wait_until(lambda: pid_file.exists() and pid_file.read_text() and (when == "late" or sign.exists()))
    stage = psutil.Process(int(pid_file.read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    psutil.wait_procs([stage], timeout=30)
    assert not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE
    assert sign.exists() == (when != "late")


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
