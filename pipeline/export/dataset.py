"""A data set in each of its formats: written whole or not at all, shard by shard, going on where it was killed."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pydantic_core
from zlib_ng import zlib_ng

from pipeline.errors import SynthGainError
from pipeline.export.bucket import Bucket
from pipeline.export.manifest import CHECKSUMS, SCHEMA_VERSION, Facts, foreign_files, write_manifest
from pipeline.export.samples import Samples
from pipeline.export.shards import CLASSES, FORMATS, assemble, prepare, record_path, write_shard
from pipeline.export.table import cut_shard
from pipeline.images import formats_for
from pipeline.runtime.device import Workers
from pipeline.runtime.outputs import only_writer, put_in_place, write_text
from pipeline.runtime.parallel import parallel_map
from pipeline.runtime.progress import progress

if TYPE_CHECKING:
    import torch

SHARD_SIZE = 10_000
# Of the unfinished work: an export does not continue what an earlier version of this code left.
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
) -> list[str]:
    """Write `<out>/<format>/` for each format: images, sample table, card, manifest, Croissant and checksums.

    The same samples give the same bytes, whatever the number of workers and the order in which shards get done.
    Shards are written to `.<name>.partial` beside `out` and put in place at the end. After a kill, the same call
    continues with the shards that are missing; a call for something else starts afresh.

    An earlier export is replaced. A folder with other files in it is refused; with `force` it is renamed to
    `<format>.before-<number>`: no file that is not ours is deleted or written over.

    Args:
        samples: what to write.
        out: the folder of the export.
        formats: some of `FORMATS`.
        source: the real data set that the generator learned from (`data.source`).
        study: what the study found of these images (JSON values).
        metrics: generative metrics with floors (JSON values).
        shard_size: samples of a shard. Memory grows with it and with the workers, and with nothing else.
        workers: processes that write shards; 1: this process alone.
        force: see above.

    Returns:
        The formats that were written: those that cannot hold the images are left out, and a line says so.

    Raises:
        SynthGainError: if a format is unknown, a folder holds files that no export wrote, another process is
            writing `out`, a worker was killed, or the disk is full. What was there before is there still.
    """
    formats = check_formats(formats)
    check_sizes(shard_size, workers)
    formats, left_out = formats_for(formats, num_classes=len(samples.class_names), channels=samples.channels)
    if left_out:
        print(left_out, file=sys.stderr)
    if not force:
        _refuse_foreign_files(out, formats)
    facts = Facts(source, shard_size, study, metrics)
    with only_writer(out):  # of the unfinished work too
        work = _work_folder(out, formats, fingerprint(samples, formats, facts))
        try:
            if not (work / _READY).exists():
                write_shards(samples, work, formats, shard_size, workers)
                finish(samples, work, formats, facts)
                (work / _READY).touch()
            for name in formats:
                if (work / name).exists():  # else it was put in place before a kill
                    _replace(work / name, out / name, replaced=work / _REPLACED)
        except Exception as error:
            shutil.rmtree(work, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SynthGainError(
                    f"{out}: the disk is full; make room or name another --out. Nothing was changed"
                ) from None
            raise
        shutil.rmtree(work)
    return formats


def _refuse_foreign_files(out: Path, formats: Sequence[str]) -> None:
    for name in formats:
        if foreign := _files_in_the_way(out / name):
            raise SynthGainError(
                f"{out / name}: holds {foreign[0]}{' and more' if len(foreign) > 1 else ''}, which no export"
                " wrote; choose another --out, or pass --force to move it aside"
            )


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


def check_sizes(shard_size: int, workers: int) -> None:
    """Refuse shards of nothing, and work for nobody.

    Raises:
        SynthGainError: if one is below 1.
    """
    if shard_size < 1 or workers < 1:
        raise SynthGainError(f"shard size {shard_size}, workers {workers}: both have to be at least 1")


def write_shards(
    samples: Samples,
    work: Path,
    formats: list[str],
    shard_size: int,
    workers: int,
    *,
    place: Bucket | None = None,
) -> None:
    """Write the shards that an earlier, killed run has not completed; with a `place`, put them there."""
    prepare(formats, work, samples=len(samples), image_size=samples.synthetic_file.image_size)
    count = -(-len(samples) // shard_size)
    missing = [number for number in range(count) if not record_path(work, number).exists()]
    if done := count - len(missing):
        print(f"{done} of {count} shards are there already; going on with the others", file=sys.stderr)
    if not missing:
        return
    # Cut here, because the hashes of the latents need torch: a worker does without it and starts fast, unless it draws.
    shards = (cut_shard(samples, number, shard_size) for number in missing)
    write = partial(write_shard, formats=formats, work=work, place=place)
    processes = Workers(min(workers, len(missing)), threads=1, device=_device(samples))
    with progress(f"writing {', '.join(formats)}", total=len(missing), unit="shards") as advance:
        for _ in parallel_map(write, shards, workers=processes, advance=advance):
            pass  # the files and the record of a shard are its result


def _device(samples: Samples) -> torch.device | None:
    """What a worker draws images on, if it does."""
    if not samples.synthetic_file.is_drawn:
        return None
    import torch

    return torch.device("cpu")


def finish(samples: Samples, work: Path, formats: list[str], facts: Facts) -> None:
    """Join the parts of all shards, and put the manifest and what belongs to it beside the files of each format."""
    count = -(-len(samples) // facts.shard_size)
    written: dict[str, dict[str, str]] = {name: {} for name in formats}
    put_away: dict[str, dict[str, int]] = {name: {} for name in formats}
    pixels = hashlib.sha256()
    for number in range(count):
        record = pydantic_core.from_json(record_path(work, number).read_bytes())
        for name, files in record["files"].items():
            written[name] |= files
        for name, sizes in record.get("bytes", {}).items():
            put_away[name] |= sizes
        pixels.update(bytes.fromhex("".join(record["pixel_sha256"])))
    size = samples.synthetic_file.image_size
    common = assemble(formats, work, samples=len(samples), shards=count, image_size=size)
    for name in formats:
        if name in ("idx", "idx_gz"):
            names = "".join(f"{class_name}\n" for class_name in samples.class_names)
            (work / name / CLASSES).write_text(names, encoding="utf-8", newline="\n")
        write_manifest(
            samples,
            work / name,
            format_name=name,
            facts=facts,
            pixel_sha256=pixels.hexdigest(),
            shards=count,
            known_hashes=common | written[name],
            put_away=put_away[name],
        )


def _replace(finished: Path, target: Path, *, replaced: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if _files_in_the_way(target):  # only with --force
        number = 1
        while (aside := target.with_name(f"{target.name}.before-{number}")).exists():
            number += 1
        target.rename(aside)
    if target.is_dir():
        # Moved, not removed: half of an export that a kill has left would look like somebody else's folder.
        shutil.rmtree(replaced, ignore_errors=True)
        target.rename(replaced)
    put_in_place(finished, target)


def _files_in_the_way(folder: Path) -> list[str]:
    """The files that an export to this folder would destroy and that no earlier export wrote."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        return [folder.name]
    return foreign_files(folder) if folder.is_dir() else []


def fingerprint(samples: Samples, formats: Sequence[str], facts: Facts) -> str:
    """Two runs with the same fingerprint write the same bytes, so one may continue with the shards of the other."""
    content = {
        "samples": samples.digest(),
        "formats": list(formats),
        "facts": asdict(facts),
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


def _work_folder(out: Path, formats: Sequence[str], fingerprint: str) -> Path:
    """The folder of unfinished work beside `out`: as a killed run of the same export left it, else empty."""
    work = out.absolute().parent / f".{out.absolute().name}.partial"
    ours = {_FINGERPRINT, _READY, _REPLACED, "records", "parts", *FORMATS}
    if work.exists() and any(
        path.name.strip(".").removesuffix(".tmp") not in ours for path in work.iterdir()
    ):
        raise SynthGainError(f"{work}: in the way and not of an export; move it")
    if not _can_be_continued(work, out, formats, fingerprint):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_text(work / _FINGERPRINT, fingerprint)
    return work


def _can_be_continued(work: Path, out: Path, formats: Sequence[str], fingerprint: str) -> bool:
    """Whether the unfinished work is of this export and whole."""
    if not (work / _FINGERPRINT).is_file() or (work / _FINGERPRINT).read_text() != fingerprint:
        return False
    # After a kill that came when formats were in place already, DVC or a user may have removed these.
    placed = [name for name in formats if not (work / name).exists()]
    return not (work / _READY).exists() or all((out / name / CHECKSUMS).is_file() for name in placed)
