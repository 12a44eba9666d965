"""A data set in each of its formats: written whole or not at all, shard by shard, going on where it was killed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pydantic_core
from zlib_ng import zlib_ng

from pipeline.errors import SynthGainError
from pipeline.export import idx
from pipeline.export.manifest import CHECKSUMS, SCHEMA_VERSION, foreign_files, write_manifest
from pipeline.export.samples import Samples
from pipeline.export.shards import CLASSES, FORMATS, assemble, prepare, record_path, write_shard
from pipeline.export.table import Shard, cut_shard
from pipeline.runtime.outputs import write_text
from pipeline.runtime.parallel import worker_context, worker_pool
from pipeline.runtime.progress import progress

SHARD_SIZE = 10_000
# Of the unfinished work: what an earlier version of this code left is not gone on with.
_LAYOUT = 2
_FINGERPRINT = "fingerprint.json"
_READY = "ready"
_REPLACED = "replaced"


def export_dataset(
    samples: Samples,
    out: Path,
    *,
    formats: Sequence[str],
    source: str,
    study: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    shard_size: int = SHARD_SIZE,
    workers: int = 1,
    force: bool = False,
) -> None:
    """Write `<out>/<format>/` for each format: images, sample table, card, manifest, Croissant and checksums.

    The same samples give the same bytes, whatever the number of workers and the order in which shards get done.
    Shards are written to `.<name>.partial` beside `out` and put in place at the end. Killed in between, the
    same call goes on after the last complete shard; a call for something else starts afresh.

    An earlier export is replaced. A folder with other files in it is refused; with `force` it is renamed to
    `<format>.before-<number>`: no file that is not ours is deleted or written over.

    Args:
        samples: what to write.
        out: the folder of the export.
        formats: some of `FORMATS`.
        source: the real data set that the generator learned from (`data.source`).
        study: what the study found of these images (JSON values).
        metrics: generative metrics with floors (JSON values).
        shard_size: samples of a shard. Memory grows with it, and with nothing else.
        workers: processes that write shards; this one is one of them.
        force: see above.

    Raises:
        SynthGainError: if a format is unknown, a folder holds files that no export wrote, another export is
            at work in the same place, or the disk is full. What was there before is there still.
    """
    formats = check_formats(formats)
    if shard_size < 1 or workers < 1:
        raise SynthGainError(f"shard size {shard_size}, workers {workers}: both have to be at least 1")
    if {"idx", "idx_gz"} & set(formats):
        idx.check_classes(len(samples.class_names))
    for name in formats:
        if not force and (foreign := _in_the_way(out / name)):
            raise SynthGainError(
                f"{out / name}: holds {foreign[0]}{' and more' if len(foreign) > 1 else ''}, which no export"
                " wrote; choose another --out, or pass --force to move it aside"
            )
    facts = {"source": source, "study": study, "metrics": metrics, "shard_size": shard_size}
    with _work_folder(out, formats, _fingerprint(samples, formats, facts)) as work:
        try:
            if not (work / _READY).exists():
                _write_shards(samples, work, formats, shard_size, workers)
                _finish(samples, work, formats, facts)
                (work / _READY).touch()
            for name in formats:
                if (work / name).exists():  # else it was put in place before a kill
                    _put_in_place(work / name, out / name, replaced=work / _REPLACED)
        except Exception as error:
            shutil.rmtree(work, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SynthGainError(
                    f"{out}: the disk is full; make room or name another --out. Nothing was changed"
                ) from None
            raise
        shutil.rmtree(work)


def check_formats(formats: Sequence[str]) -> list[str]:
    """The formats, each once, in their own order.

    Raises:
        SynthGainError: if one is not known, or there are none.
    """
    for name in formats:
        if name not in FORMATS:
            raise SynthGainError(f"format: found {name!r}; allowed are {', '.join(FORMATS)}")
    if not formats:
        raise SynthGainError(f"format: none given; allowed are {', '.join(FORMATS)}")
    return [name for name in FORMATS if name in formats]


def _write_shards(samples: Samples, work: Path, formats: list[str], shard_size: int, workers: int) -> None:
    prepare(formats, work, samples=len(samples), image_size=samples.synthetic_file.image_size)
    count = -(-len(samples) // shard_size)
    missing = [number for number in range(count) if not record_path(work, number).exists()]
    if done := count - len(missing):
        print(f"{done} of {count} shards are there already; going on with the others", file=sys.stderr)
    with progress(f"writing {', '.join(formats)}", total=len(missing), unit="shards") as advance:
        helpers = min(workers, len(missing)) - 1
        numbers, turn = iter(missing), threading.Lock()

        def write_all(write: Callable[[Shard], None]) -> None:
            try:
                while True:
                    with turn:
                        number = next(numbers, None)
                    if number is None:
                        return
                    write(cut_shard(samples, number, shard_size))
                    with turn:
                        advance(1)
            except BaseException:
                with turn:
                    deque(numbers, maxlen=0)  # nobody begins another one
                raise

        # This process is one of the workers. Each of the others has a thread here that hands it a shard after
        # another: no more shards in memory than are being written.
        if helpers < 1:
            write_all(lambda shard: write_shard(shard, formats, work))
            return
        context = worker_context(preload=write_shard.__module__)
        with worker_pool(helpers, context=context) as pool, ThreadPoolExecutor(helpers) as threads:
            at_work = [
                threads.submit(write_all, partial(_write_in, pool, formats, work)) for _ in range(helpers)
            ]
            write_all(lambda shard: write_shard(shard, formats, work))
            for each in at_work:
                each.result()


def _write_in(pool: ProcessPoolExecutor, formats: list[str], work: Path, shard: Shard) -> None:
    try:
        pool.submit(write_shard, shard, formats, work).result()
    except BrokenProcessPool:
        raise SynthGainError("a worker was killed, perhaps for want of memory; use fewer --workers") from None


def _finish(samples: Samples, work: Path, formats: list[str], facts: Mapping[str, Any]) -> None:
    shard_size = facts["shard_size"]
    count = -(-len(samples) // shard_size)
    written: dict[str, dict[str, str]] = {name: {} for name in formats}
    pixels = hashlib.sha256()
    for number in range(count):
        record = pydantic_core.from_json(record_path(work, number).read_bytes())
        for name, files in record["files"].items():
            written[name] |= files
        pixels.update(bytes.fromhex("".join(record["pixel_sha256"])))
    size = samples.synthetic_file.image_size
    common = assemble(formats, work, samples=len(samples), shards=count, image_size=size)
    for name in formats:
        if name in ("idx", "idx_gz"):
            text = "".join(f"{each}\n" for each in samples.class_names)
            (work / name / CLASSES).write_text(text, encoding="utf-8", newline="\n")
        write_manifest(
            samples,
            work / name,
            format_name=name,
            pixel_sha256=pixels.hexdigest(),
            shards=count,
            known_hashes=common | written[name],
            **facts,
        )


def _put_in_place(finished: Path, target: Path, *, replaced: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if _in_the_way(target):  # only with --force
        number = 1
        while (aside := target.with_name(f"{target.name}.before-{number}")).exists():
            number += 1
        target.rename(aside)
    if target.is_dir():
        # Moved, not removed: half of an export that a kill has left would look like somebody else's folder.
        shutil.rmtree(replaced, ignore_errors=True)
        target.rename(replaced)
    os.replace(finished, target)


def _in_the_way(folder: Path) -> list[str]:
    """What an export to this folder would destroy that is not of an earlier one."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        return [folder.name]
    return foreign_files(folder) if folder.is_dir() else []


def _fingerprint(samples: Samples, formats: Sequence[str], facts: Mapping[str, Any]) -> str:
    """Two runs with the same fingerprint write the same bytes, so one may go on with the shards of the other."""
    content = {
        "samples": samples.digest(),
        "formats": list(formats),
        "facts": facts,
        "schema_version": SCHEMA_VERSION,
        "layout": _LAYOUT,
        "versions": {
            "numpy": np.__version__,
            "pyarrow": pa.__version__,
            "pydantic-core": pydantic_core.__version__,
            "zlib": zlib.ZLIB_RUNTIME_VERSION,
            "zlib-ng": zlib_ng.ZLIBNG_VERSION,
        },
    }
    return json.dumps(content, sort_keys=True)


@contextmanager
def _work_folder(out: Path, formats: Sequence[str], fingerprint: str) -> Iterator[Path]:
    """The folder of unfinished work beside `out`, held by this process alone."""
    work = out.absolute().parent / f".{out.absolute().name}.partial"
    ours = {_FINGERPRINT, _READY, _REPLACED, "records", "parts", *FORMATS}
    if work.exists() and any(
        each.name.strip(".").removesuffix(".tmp") not in ours for each in work.iterdir()
    ):
        raise SynthGainError(f"{work}: in the way and not of an export; move it")
    work.mkdir(parents=True, exist_ok=True)
    with (work.with_name(f"{work.name}.lock")).open("a") as lock:
        try:
            _lock(lock.fileno())
        except BlockingIOError:
            raise SynthGainError(f"{out}: another export is writing there; wait for it") from None
        try:
            if not _goes_on(work, out, formats, fingerprint):
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir(parents=True)
                write_text(work / _FINGERPRINT, fingerprint)
            yield work
        finally:
            Path(lock.name).unlink(missing_ok=True)


def _goes_on(work: Path, out: Path, formats: Sequence[str], fingerprint: str) -> bool:
    """Whether the unfinished work is of this export and whole."""
    if not (work / _FINGERPRINT).is_file() or (work / _FINGERPRINT).read_text() != fingerprint:
        return False
    # Killed after it had put formats in place: DVC, or a user, may have removed those since.
    placed = [name for name in formats if not (work / name).exists()]
    return not (work / _READY).exists() or all((out / name / CHECKSUMS).is_file() for name in placed)


def _lock(file: int) -> None:
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
