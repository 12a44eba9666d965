"""The same pieces of work as tasks on a Ray cluster: where `RAY_ADDRESS` names one.

A task is a pure function of its arguments. A training writes its result into the store, below the folder that all
nodes share, before it reports it: what a dead worker, node or driver costs is the tasks that they held. Nodes must
compute the same bytes as this process, which is asked of each of them once.
"""

from __future__ import annotations

import csv
import os
import pickle
import platform
import socket
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import SynthGainError
from pipeline.runtime.code import ROOT, tree_sha256
from pipeline.runtime.device import Workers, set_switches
from pipeline.runtime.outputs import WORK, write_text
from pipeline.runtime.progress import Advance, counted
from pipeline.runtime.store import cpu_capability

Job = TypeVar("Job")
Result = TypeVar("Result")

ADDRESS, ALLOW_DIFFERENT = "RAY_ADDRESS", "SYNTHGAIN_ALLOW_DIFFERENT_NODES"
_SECONDS_TO_CONNECT = 10.0
_SECONDS_TO_ANSWER = 240.0  # of a node, which may be busy: it starts a worker, and that imports torch
_SECONDS_BETWEEN_REPORTS = 0.5
_SECONDS_BETWEEN_WORDS = 15.0
_TIMES_LOST = 20  # a task may lose its worker or node so often

WHERE = WORK / "cluster.csv"  # no output of DVC: results do not say where they were computed

_checked: set[str] = set()  # nodes that were asked


def cluster_map(
    work: Callable[[Job, Advance], Result], jobs: Iterable[Job], *, workers: Workers, advance: Advance
) -> Iterator[tuple[Job, Result]]:
    """As `parallel_map`, on the nodes of a Ray cluster.

    A task takes a CPU for each of its threads, and a GPU where `workers` has CUDA.

    Raises:
        SynthGainError: if Ray or the cluster is not there, a node differs from this process, or a task was lost too
            often; whatever `work` raises. The other tasks are ended then, with the connection.
    """
    ray = _connected()
    wanted = {**facts(Path.cwd()), "mark": _mark()}
    _check_nodes(ray, wanted)
    reports = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Reports).remote()
    # As many threads as here, since another number may change a GAN's bytes; they share the CPUs of a smaller node.
    most = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    needs = {
        "num_cpus": max(1, min(workers.threads, int(most))),
        "num_gpus": int(workers.device is not None and workers.device.type == "cuda"),
    }
    if needs["num_gpus"] > ray.cluster_resources().get("GPU", 0):
        raise SynthGainError(
            f"{ADDRESS}: this command computes on CUDA, and no machine of the cluster has a GPU for Ray; give it one"
            " (ray start --num-gpus=1), or compute on the CPU (execution.device, --device cpu)"
        )
    task = ray.remote(max_retries=_TIMES_LOST, **needs)(_run)
    shared = ray.put(_packed((work, workers, _settings(), wanted)))
    at_once = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)) // needs["num_cpus"])
    relay = _Relay(ray, reports, advance)
    waiting: deque[tuple[Job, Any]] = deque()
    places: Counter[tuple[str, str]] = Counter()

    def first() -> tuple[Job, Result]:
        job, reference = waiting[0]
        while not ray.wait([reference], timeout=_SECONDS_BETWEEN_REPORTS)[0]:
            relay()
        place, result = _result(ray, reference)
        places[place] += 1
        waiting.popleft()
        return job, result

    try:
        for job in jobs:
            if len(waiting) == at_once:
                yield first()
            waiting.append((job, task.remote(shared, _packed(job), reports)))
        while waiting:
            yield first()
        relay(timeout=_SECONDS_TO_CONNECT)
    finally:
        # Ray ends the tasks of a process that leaves, while ray.cancel may abort this process (ray-project/ray#54798).
        # Else the reports end with their last handle: ray.kill would end them before the last report came in.
        if waiting:
            ray.shutdown()
        _say_where(getattr(work, "func", work).__name__, places)


def _connected() -> Any:
    """The module `ray`, connected to the cluster of `RAY_ADDRESS`."""
    address = os.environ[ADDRESS]
    try:
        import ray
    except ImportError:
        raise SynthGainError(
            f"{ADDRESS}: found {address}, but Ray is not installed here; pip install 'synthgain[ray]', or unset it"
        ) from None
    if ray.is_initialized():
        return ray
    _check_address(address)
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of tasks beside the one whose error is told
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            configure_logging=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([str(ROOT), *_python_path()])}},
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise SynthGainError(f"{ADDRESS}: found {address}; {_one_line(error)}") from None
    return ray


def _check_address(address: str) -> None:
    """Whether somebody answers there at all: Ray itself tries for a minute."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not (colon and host and port.isdecimal()):
        raise SynthGainError(f"{ADDRESS}: found {address}; auto, or host:port of the head node is needed")
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise SynthGainError(
            f"{ADDRESS}: found {address}, where nobody answers ({error.strerror or error}); start Ray there"
            " (ray start --head), or unset it"
        ) from None


def _check_nodes(ray: Any, wanted: Mapping[str, Any]) -> None:
    """Ask each node whether it would compute the same bytes, before the first task; refuse those that would not."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=3)(difference)
    answers = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU") and node["NodeID"] not in _checked:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answers[node["NodeID"]] = (
                node["NodeManagerHostname"],
                ask.options(scheduling_strategy=place).remote(wanted),
            )
    for node_id, (name, reference) in answers.items():
        try:
            differs = ray.get(reference, timeout=_SECONDS_TO_ANSWER)
        except Exception as error:
            raise SynthGainError(
                f"Ray node {name}: cannot run this project ({_one_line(error)}); it needs the same Python packages, and"
                " this project at the same path"
            ) from None
        if differs and not _allowed(differs):
            raise SynthGainError(f"Ray node {name}: {differs}")
        _checked.add(node_id)


def _allowed(differs: str) -> bool:
    """Whether the user wants other bytes; without the workspace no node can work."""
    if differs.startswith("workspace") or os.environ.get(ALLOW_DIFFERENT) != "1":
        return False
    print(f"warning: {differs}", file=sys.stderr)
    return True


def facts(workspace: Path) -> dict[str, Any]:
    """What the bytes of a result depend on, of the machine that runs this."""
    return {
        "workspace": str(workspace),
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "torch": version("torch"),
        "CPU capability": cpu_capability(),
        "code": tree_sha256()[:12],
    }


def _result(ray: Any, reference: Any) -> Any:
    """What `_run` returned: the node with what it differs in, and the result."""
    try:
        return pickle.loads(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Exception) else error
        raise cause from None
    except (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.ObjectLostError,
        ray.exceptions.ObjectStoreFullError,
        ray.exceptions.OutOfDiskError,
    ) as error:
        raise SynthGainError(
            f"a task lost its Ray worker, its node or its result too often ({_one_line(error)}); what is finished is"
            " kept: give the same command again"
        ) from None


def _say_where(work: str, places: Mapping[tuple[str, str], int]) -> None:
    """Say on which nodes the tasks ran, and keep it: `work`, by node and by what that node differs in."""
    if not places:
        return
    words = ", ".join(f"{node} {tasks}" for (node, _), tasks in sorted(places.items()))
    print(f"{counted(sum(places.values()), 'task')} on the cluster: {words}", file=sys.stderr, flush=True)
    WHERE.parent.mkdir(exist_ok=True)
    is_new = not WHERE.exists()
    with WHERE.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(["time", "work", "node", "tasks", "differs"])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for (node, differs), tasks in sorted(places.items()):
            writer.writerow([now, work, node, tasks, differs])


class _Relay:
    """Passes on what the tasks have reported, and says now and then why nothing goes on."""

    def __init__(self, ray: Any, reports: Any, advance: Advance) -> None:
        self.ray, self.reports, self.advance = ray, reports, advance
        self.passed_on, self.last = 0.0, time.monotonic()

    def __call__(self, *, timeout: float = _SECONDS_BETWEEN_REPORTS) -> None:
        """Ask once. Where the node of the reports died, progress begins again; no result is lost."""
        try:
            total, note = self.ray.get(self.reports.total.remote(), timeout=timeout)
        except self.ray.exceptions.RayError:
            total, note = self.passed_on, ""
        if total > self.passed_on:
            self.advance(total - self.passed_on, note)
            self.last = time.monotonic()
        self.passed_on = total
        if time.monotonic() - self.last > _SECONDS_BETWEEN_WORDS:
            self.last = time.monotonic()
            if not self.ray.available_resources().get("CPU"):
                cpus = self.ray.cluster_resources().get("CPU", 0)
                print(f"waiting for one of the {cpus:g} CPUs of the Ray cluster", file=sys.stderr)


def _mark() -> str:
    """A file of this workspace: a node that shares its folder finds it."""
    path = WORK / "workspace"
    if not path.is_file():
        write_text(path, f"{uuid.uuid4()}\n")
    return f"{path}"


def _settings() -> dict[str, str]:
    """What a task needs of this process's environment."""
    return {name: value for name, value in os.environ.items() if name.startswith("SYNTHGAIN_")}


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _packed(value: Any) -> bytes:
    """As bytes: Ray hands out arrays of its own as read-only."""
    from ray import cloudpickle

    packed: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return packed


# What follows runs in a task or an actor.


def difference(wanted: Mapping[str, Any]) -> str | None:
    """What this machine differs in from the one that wants its work; None: in nothing."""
    workspace = Path(wanted["workspace"])
    if not (workspace / wanted["mark"]).is_file():
        return (
            f"workspace {workspace} is not the one of this command; put it into a folder that all nodes share"
        )
    here = facts(workspace)
    for fact, there in wanted.items():
        if fact in here and here[fact] != there:
            return (
                f"{fact} is {here[fact]}, and where the command runs {there}; make it the same, take the node out, or"
                f" set {ALLOW_DIFFERENT}=1 and get other bytes"
            )
    return None


_differs: str | None = (
    None  # what this worker's machine differs in, and may; empty: in nothing; None: not compared
)


class _Reports:
    """Collects what the tasks have done."""

    def __init__(self) -> None:
        self.done, self.note = 0.0, ""

    def add(self, units: float, note: str) -> None:
        """More is done."""
        self.done, self.note = self.done + units, note or self.note

    def total(self) -> tuple[float, str]:
        """What is done in all, and the last note. Not what is new: an answer may get lost."""
        return self.done, self.note


def _run(shared: bytes, job: bytes, reports: Any) -> bytes:
    global _differs
    import ray

    work, workers, settings, wanted = pickle.loads(shared)
    os.environ.update(settings)
    if _differs is None:  # a node that came later was not asked
        differs = difference(wanted) or ""
        if differs and not _allowed(differs):
            raise SynthGainError(f"Ray node {platform.node()}: {differs}")
        _differs = differs
    os.chdir(wanted["workspace"])
    if workers.device is not None:
        set_switches(workers.device, threads=workers.threads)
    done, said, last = 0.0, "", time.monotonic()

    def advance(units: float, note: str = "") -> None:
        nonlocal done, said, last
        done, said, now = done + units, note or said, time.monotonic()
        if now - last >= _SECONDS_BETWEEN_REPORTS:
            reports.add.remote(done, said)
            done, last = 0.0, now

    result = work(pickle.loads(job), advance)
    reports.add.remote(done, said)
    node = f"{platform.node()}/{ray.get_runtime_context().get_node_id()[:8]}"
    return pickle.dumps(((node, _differs), result))
