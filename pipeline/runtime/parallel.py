"""Independent pieces of work at the same time, each in a process of its own that ends with this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import connection, forkserver, resource_tracker
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from pipeline.errors import SynthGainError
from pipeline.runtime.device import Workers, set_switches, several_processes
from pipeline.runtime.progress import Advance

if TYPE_CHECKING:
    from pipeline.params import Execution

Job = TypeVar("Job")
Result = TypeVar("Result")

_SECONDS_BETWEEN_REPORTS = 0.2


def parallel_map(
    work: Callable[[Job, Advance], Result],
    jobs: Iterable[Job],
    *,
    workers: Workers,
    advance: Advance,
) -> Iterator[tuple[Job, Result]]:
    """Work on jobs in several processes at once; yield each job with its result, in the order of the jobs.

    Where the environment's `RAY_ADDRESS` names a Ray cluster, they are tasks there (`cluster`): the bytes are the same.

    Args:
        work: a function of a module (or a partial of one); reports what it has done to the second argument.
        jobs: taken as they are needed: at most two per process are in memory.
        workers: the processes; of one alone, this is it, and it works on one job after another.
        advance: told what the workers report, a few times a second.

    Raises:
        SynthGainError: if a worker was killed; whatever `work` raises. The other workers are killed then.
    """
    if os.environ.get("RAY_ADDRESS"):
        from pipeline.runtime.cluster import cluster_map

        yield from cluster_map(work, jobs, workers=workers, advance=advance)
        return
    prepare = partial(_prepare, workers)
    if workers.processes == 1:
        prepare()
        for job in jobs:
            yield job, work(job, advance)
        return
    context = worker_context(preload=_module_of(work))
    with _shared_memory_explained():
        reports = context.SimpleQueue()
    start = partial(_start, reports, prepare)
    with (
        worker_pool(workers.processes, context=context, initializer=start) as pool,
        _killed_worker_explained(),
    ):
        # On an error nobody waits for this thread: a killed worker may have taken the queue's lock with it.
        relay = threading.Thread(target=_relay, args=(reports, advance), daemon=True)
        relay.start()
        waiting: deque[tuple[Job, Future[Result]]] = deque()
        for job in jobs:
            if len(waiting) == 2 * workers.processes:
                yield _next(waiting)
            waiting.append((job, pool.submit(_work, work, job)))
        while waiting:
            yield _next(waiting)
        reports.put(None)
        relay.join()


def preload_workers(module: str, execution: Execution, *, trainings: int) -> None:
    """Let the fork server import `module`, the one of the work, while this process imports it: both take seconds.

    To be called before that. It does nothing where the work will be done in this process, or on a cluster.
    """
    if several_processes(execution, trainings=trainings) and not os.environ.get("RAY_ADDRESS"):
        worker_context(preload=module)


def worker_context(*, preload: str) -> multiprocessing.context.BaseContext:
    """How workers are started: by a fork server that has imported the module `preload`, where there is one.

    A fork of a process that has run torch may hang.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if isinstance(context, multiprocessing.context.ForkServerContext):
        context.set_forkserver_preload([preload])
        _start_fork_server()
    return context


def _start_fork_server() -> None:
    """Deaf to Ctrl-C and SIGTERM from its first moment on, and its workers with it: they inherit what is blocked here.

    Its imports take two seconds, and a worker is born with Python's own handlers: in both, a Ctrl-C in the terminal
    would print a traceback. What comes to this process meanwhile is heard when the block ends.
    """
    resource_tracker.ensure_running()  # it unblocks the same signals when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _shared_memory_explained() -> Iterator[None]:
    """Locks between processes lie in /dev/shm; the system's own words name no path."""
    try:
        yield
    except OSError as error:
        raise SynthGainError(
            f"/dev/shm: no locks between worker processes can be made ({error.strerror or error}); make room there or"
            " mount it for writing (docker run --shm-size=64m), or set execution.processes in params.yaml to 1 (of an"
            " export: --workers 1), which needs none"
        ) from None


@contextmanager
def worker_pool(
    workers: int,
    *,
    context: multiprocessing.context.BaseContext,
    initializer: Callable[[], None] | None = None,
) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers end with this process however it ends; an error in the block ends them too.

    They hear neither Ctrl-C nor SIGTERM, which a terminal sends to all of them: this process decides.
    """
    with _shared_memory_explained():
        pool = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_begin, initargs=(initializer, dict(os.environ))
        )
    try:
        yield pool
    except BaseException:
        _kill_workers()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _kill_workers() -> None:
    """Those that are being started too: of them only the fork server knows, which is stopped before it is asked.

    Left alone, such a worker would look for what this process has taken away already, and print a traceback.
    """
    pid = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
    with suppress(psutil.Error):
        if pid is not None:
            server = psutil.Process(pid)
            server.suspend()
            for process in [*server.children(recursive=True), server]:  # the next pool starts another server
                process.kill()
    for process in multiprocessing.active_children():  # where there is no fork server
        process.kill()


# What follows runs in a worker, but for `_relay`, `_next`, `_killed_worker_explained` and `_module_of`.

_reports: Any = None


def _begin(initializer: Callable[[], None] | None, environment: dict[str, str]) -> None:
    os.environ.clear()  # the fork server's, from when the first pool was opened
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_with_parent()
    if initializer is not None:
        initializer()


def _end_with_parent() -> None:
    """A killed parent must leave no worker behind that waits for ever, or writes.

    The fork server ends when nobody holds its pipe any more, and each worker holds it: asking Linux to end a worker
    with its parent process, which is the fork server, would have both wait for each other.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a worker"

    def wait_for_its_end() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait_for_its_end, daemon=True).start()


def _prepare(workers: Workers) -> None:
    if workers.device is not None:
        set_switches(workers.device, threads=workers.threads)


def _start(reports: Any, prepare: Callable[[], None]) -> None:
    global _reports
    _reports = reports
    prepare()


def _work(work: Callable[[Job, Advance], Result], job: Job) -> Result:
    done, said, last = 0.0, "", time.monotonic()

    def advance(units: float, note: str = "") -> None:
        nonlocal done, said, last
        done, said, now = done + units, note or said, time.monotonic()
        if now - last >= _SECONDS_BETWEEN_REPORTS:
            _reports.put((done, said))
            done, last = 0.0, now

    result = work(job, advance)
    _reports.put((done, said))
    return result


def _relay(reports: Any, advance: Advance) -> None:
    while (report := reports.get()) is not None:
        advance(*report)


def _next(waiting: deque[tuple[Job, Future[Result]]]) -> tuple[Job, Result]:
    job, future = waiting.popleft()
    return job, future.result()


@contextmanager
def _killed_worker_explained() -> Iterator[None]:
    """The pool says so of the results that it waits for, and of a job that is handed in afterwards."""
    try:
        yield
    except BrokenProcessPool:
        raise SynthGainError(
            "a worker was killed, perhaps for want of memory; give the same command again, with fewer"
            " execution.processes in params.yaml (of an export: --workers) if it happens again"
        ) from None


def _module_of(work: Callable[..., Any]) -> str:
    return str((work.func if isinstance(work, partial) else work).__module__)
