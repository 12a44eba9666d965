"""Ctrl-C and SIGTERM of a `dvc repro`: its stage says one line and is gone, and nothing is half-written."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a stage is tied to DVC on Linux"),
]

STAGE = """
import os, time
from pathlib import Path
from pipeline.runtime.outputs import atomic_output
from stages.command import run

def main() -> None:
    with atomic_output(Path("data/out.txt")) as temporary:
        temporary.write_text("half")
        Path("pid").write_text(str(os.getpid()))
        Path("pid").rename("working")
        time.sleep(60)

run(main)
"""
DVC_YAML = """
stages:
  idle:
    cmd: python idle.py
    outs: [data/out.txt]
"""


@pytest.mark.parametrize("shell", ["sh", "bash"])  # some shells give their place to the command, some do not
@pytest.mark.parametrize(
    "number, whom, said",
    [
        (signal.SIGINT, "group", "interrupted: nothing half-written"),
        (signal.SIGTERM, "stage", "ended: nothing half-written"),
        (signal.SIGTERM, "dvc", "ended: nothing half-written"),
        (signal.SIGTERM, "group", "ended: nothing half-written"),
        (signal.SIGKILL, "dvc", "ended: nothing half-written"),
    ],
)
def test_a_signal_ends_the_run_its_stage_and_nothing_else(tmp_path, number, whom, said, shell):
    if not (place := shutil.which(shell)):
        pytest.skip(f"no {shell} here")
    (tmp_path / "idle.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "SYNTHGAIN_STORE"},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DVC_NO_ANALYTICS": "1",
        "SHELL": place,
    }
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "-q"], cwd=tmp_path, env=environment, check=True)
    process = subprocess.Popen(
        [*dvc, "repro"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    sign = tmp_path / "working"
    deadline = time.monotonic() + 90
    while not sign.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    stage = psutil.Process(int(sign.read_text()))
    if whom == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(stage.pid if whom == "stage" else process.pid, number)
    output, _ = process.communicate(timeout=90)
    assert process.returncode != 0
    assert "Traceback" not in output
    assert said in output
    psutil.wait_procs([stage], timeout=30)
    assert not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE
    assert not (tmp_path / "data/out.txt").exists()
    assert list((tmp_path / "data").glob(".*.tmp")) == []
