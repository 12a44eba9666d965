"""MLflow's interface is opened on the runs of a study, and ends with the command."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from pipeline.tracking.browsing import pages
from pipeline.tracking.mirror import mirror
from pipeline.tracking.planned_runs import PlannedRun
from pipeline.tracking.store import find_store

ROOT = Path(__file__).parents[2]
STUDY = PlannedRun(kind="study", key="study", name="study")
CELL = PlannedRun(
    kind="cell",
    key="cell/60/real/0/1",
    name="cell",
    params={"arm": "real", "synthetic_per_real": "0", "real_images": "60"},
)


@pytest.fixture
def store(tmp_path):
    """Of two studies, of which the second has not ended."""
    found = find_store({}, tmp_path)
    mirror([STUDY, CELL], experiment="synthgain-a", store=found, root=tmp_path)
    mirror([STUDY], experiment="synthgain-b", store=found, root=tmp_path)
    return found


def test_each_study_has_the_page_of_its_runs_and_the_one_at_hand_comes_first(store):
    found = pages(store, first="synthgain-b")
    assert list(found) == ["synthgain-b", "synthgain-a"]  # and not MLflow's own empty experiment
    begins = "/#/experiments/{}/runs?workflowType=machine_learning&"
    assert found["synthgain-a"] == begins.format(1) + "viewStateShareKey=synthgain-means"
    assert found["synthgain-b"].startswith(begins.format(2)) and "synthgain-gans" in found["synthgain-b"]


@pytest.mark.slow
def test_the_command_prints_the_address_serves_it_and_ends_with_its_server(store, tmp_path):
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    code = "from synthgain.app import main; main()"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "DVC"))}
    with subprocess.Popen(
        [sys.executable, "-c", code, "ui", str(tmp_path), "--port", str(port)],
        env=inherited | {"BROWSER": "true"},  # a program that does nothing
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as command:
        assert command.stdout.readline().startswith(f"synthgain-a: {address}/#/experiments/1/runs?")
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert command.poll() is None
                time.sleep(0.5)
        time.sleep(2)  # it waits for its server by now
        command.send_signal(signal.SIGINT)
        command.communicate(timeout=60)
    assert command.returncode == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{address}/health", timeout=5)
