"""MLflow's user interface, opened on the runs of a study."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
import webbrowser

from mlflow.entities import ViewType

from pipeline.tracking.connection import client_of, working_with
from pipeline.tracking.saved_views import GANS_QUERY, MEANS_QUERY, MEANS_TAG, TAG_PREFIX
from pipeline.tracking.store import Store, runs_page

_SECONDS = 120.0  # a server starts within 10 s on a machine with nothing else to do


def pages(store: Store, *, first: str) -> dict[str, str]:
    """By the name of each experiment what follows the server's address: its runs, in the view that answers most.

    Args:
        store: what `find_store` gives.
        first: the name of the experiment that stands first, where it is there.

    Raises:
        SynthGainError: if the store cannot be reached or used.
    """
    with working_with(store):
        found = client_of(store).search_experiments(ViewType.ACTIVE_ONLY)
    ours = [each for each in found if any(tag.startswith(TAG_PREFIX) for tag in each.tags)]
    ours.sort(key=lambda each: (each.name != first, each.name))
    return {
        each.name: runs_page(each.experiment_id, MEANS_QUERY if MEANS_TAG in each.tags else GANS_QUERY)
        for each in ours
    }


def serve(store: Store, *, port: int, page: str) -> int:
    """Run MLflow's server on a store of this machine until it ends, and open a page of it in a browser; its status."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Two processes instead of fifteen: the UI of a study schedules no jobs.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(command, env=environment) as server:
        try:
            if _answers(server, port):
                webbrowser.open(f"http://127.0.0.1:{port}{page}")  # where there is none, nothing happens
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            server.wait()
            return 0


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the server answers, as soon as it does; not once it has ended."""
    end = time.monotonic() + _SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return True
        except OSError:
            time.sleep(0.5)
    return False
