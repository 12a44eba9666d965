"""What a worker does: one shard, in every format that is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic_core import to_json

from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.export import arrow, idx, npz, parquet, png, webdataset
from pipeline.export.bucket import Bucket
from pipeline.export.table import Shard, shard_name
from pipeline.runtime.outputs import write_text
from pipeline.runtime.progress import Advance

FORMATS = ("idx", "idx_gz", "png", "npz", "parquet", "webdataset", "arrow")
# Formats whose rows carry the sample table themselves; the others get it beside them.
SELF_CONTAINED = ("parquet",)
# Beside IDX, which has no place for names.
CLASSES = "classes.txt"

# Those that an object store can hold: a file of its own for each shard, put when it is done.
OF_SHARDS = ("npz", "parquet", "webdataset", "arrow")
_FILE_PER_SHARD = {
    "npz": (npz.write_shard, ".npz"),
    "parquet": (parquet.write_shard, ".parquet"),
    "webdataset": (webdataset.write_shard, ".tar"),
    "arrow": (arrow.write_shard, ".arrow"),
}


def write_shard(
    shard: Shard, advance: Advance, *, formats: Sequence[str], work: Path, place: Bucket | None = None
) -> None:
    """Write a shard's files and parts below `work`, then its record: without that, it is not complete.

    Files go to `<work>/<format>/`, parts of larger files to `<work>/parts/<format>/`; the folders are there.
    With a `place` the files are read again, put to `<place>/<format>/` and taken away here.
    The record holds the SHA-256 of each file and of each image's pixels. `advance` is called once, with 1.
    """
    hashes: dict[str, dict[str, str]] = {}
    for name in formats:
        if name in _FILE_PER_SHARD:
            write, suffix = _FILE_PER_SHARD[name]
            file_name = shard.file_name(suffix)
            sha256 = write(shard, work / name)
            hashes[name] = {file_name: sha256 or file_sha256(work / name / file_name)}
        elif name == "png":
            hashes[name] = png.write_shard(shard, work / name)
        elif name == "idx":
            idx.write_shard(shard, work / name)
        else:
            idx.write_gzip_part(shard, work / "parts" / name)
    if set(formats) - set(SELF_CONTAINED):
        parquet.write_table_part(shard, work / "parts")
    record: dict[str, object] = {"files": hashes, "pixel_sha256": shard.pixel_sha256}
    if place is not None:
        record["bytes"] = _put(hashes, work, place)
    write_text(record_path(work, shard.number), to_json(record).decode())
    advance(1)


def _put(hashes: Mapping[str, Mapping[str, str]], work: Path, place: Bucket) -> dict[str, dict[str, int]]:
    """Put the files of a shard to an object store, once they are what was written; the bytes of each."""
    sizes: dict[str, dict[str, int]] = {}
    for name, files in hashes.items():
        for file_name, sha256 in files.items():
            file = work / name / file_name
            if file_sha256(file) != sha256:
                raise SynthGainError(
                    f"{file}: changed since it was written; the same command writes it again"
                )
            (place / name).put(file_name, file)
            sizes.setdefault(name, {})[file_name] = file.stat().st_size
            file.unlink()
    return sizes


def record_path(work: Path, number: int) -> Path:
    """Where the record of a complete shard lies."""
    return work / "records" / f"{number}.json"


def data_files(name: str, shards: int) -> set[str]:
    """The files that hold the data of a format, single PNG files apart."""
    beside = set() if name in SELF_CONTAINED else {parquet.TABLE}
    if name in _FILE_PER_SHARD:
        suffix = _FILE_PER_SHARD[name][1]
        return beside | {shard_name(number, shards, suffix) for number in range(shards)}
    if name == "png":
        return beside
    suffix = ".gz" if name == "idx_gz" else ""
    return beside | {CLASSES, f"{idx.IMAGES}{suffix}", f"{idx.LABELS}{suffix}"}


def prepare(formats: Sequence[str], work: Path, *, samples: int, image_size: tuple[int, int]) -> None:
    """Make the folders, and the files that shards are written into."""
    for folder in ("records", "parts", *formats, *(f"parts/{name}" for name in formats)):
        (work / folder).mkdir(exist_ok=True)
    if "idx" in formats:
        idx.prepare(work / "idx", samples=samples, image_size=image_size)


def assemble(
    formats: Sequence[str], work: Path, *, samples: int, shards: int, image_size: tuple[int, int]
) -> dict[str, str]:
    """Join the parts of a format, if it has any, and put the sample table beside formats that do not carry it.

    Returns:
        The SHA-256 of the files that lie in each of these formats.
    """
    parts = work / "parts"
    if "idx_gz" in formats:
        idx.assemble_gzip(
            parts / "idx_gz", work / "idx_gz", samples=samples, shards=shards, image_size=image_size
        )
    beside = [name for name in formats if name not in SELF_CONTAINED]
    if not beside:
        return {}
    parquet.assemble_table(parts, work / beside[0], shards=shards)
    table = work / beside[0] / parquet.TABLE
    for name in beside[1:]:
        shutil.copyfile(table, work / name / parquet.TABLE)
    return {parquet.TABLE: file_sha256(table)}
