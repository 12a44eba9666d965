"""A data set in an object store: shards are put when they are done, so that no disk has to hold it."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import SynthGainError
from pipeline.export.bucket import Bucket
from pipeline.export.dataset import SHARD_SIZE, check_formats, check_sizes, fingerprint, finish, write_shards
from pipeline.export.manifest import CARD, CHECKSUMS, CROISSANT, MANIFEST, Facts
from pipeline.export.samples import Samples
from pipeline.export.shards import OF_SHARDS, data_files
from pipeline.runtime.outputs import WORK, is_being_written, only_writer, write_text
from pipeline.runtime.progress import counted

# Says in the store whose unfinished export lies there.
CLAIM = "unfinished-export.json"
FOLDER = WORK / "export"
_FINGERPRINT, _OWNER = "fingerprint", "owner"
_BESIDE = {MANIFEST, CARD, CROISSANT, CHECKSUMS}


def upload_dataset(
    samples: Samples,
    place: Bucket,
    *,
    formats: Sequence[str],
    source: str,
    shard_size: int = SHARD_SIZE,
    workers: int = 1,
) -> list[str]:
    """Put `<place>/<format>/` for each format: shards when they are done, then what is beside them, the manifest last.

    What is unfinished has a folder in `.work/export` and a claim in the store. After a kill, the same call from the
    same folder goes on with the shards that are missing. Its objects are those of an export that was not killed.

    Args:
        samples, formats, source, shard_size, workers: as `export_dataset`.
        place: where to.

    Returns:
        The formats.

    Raises:
        SynthGainError: if a format has no file per shard, other objects lie there, another export is writing there, or
            the store refuses. What is there stays, and the same call goes on.
    """
    formats = check_formats(formats)
    if others := [name for name in formats if name not in OF_SHARDS]:
        raise SynthGainError(
            f"format: found {', '.join(others)} for an object store; allowed there are {', '.join(OF_SHARDS)}, which"
            " have a file per shard"
        )
    check_sizes(shard_size, workers)
    facts = Facts(source, shard_size)
    mark = fingerprint(samples, formats, facts)
    work = FOLDER / hashlib.sha256(place.address.encode()).hexdigest()[:16]
    with only_writer(work):
        if not (work / _FINGERPRINT).is_file() or (work / _FINGERPRINT).read_text(encoding="utf-8") != mark:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            write_text(work / _OWNER, json.dumps({"address": str(place), "owner": str(uuid.uuid4())}))
            write_text(work / _FINGERPRINT, mark)
        shards = -(-len(samples) // shard_size)
        _claim(place, work, {name: data_files(name, shards) for name in formats})
        write_shards(samples, work, formats, shard_size, workers, place=place)
        finish(samples, work, formats, facts)
        for name in formats:
            _put_what_is_beside(place / name, work / name)
        _check(place, work, formats)
        place.remove(CLAIM)
        shutil.rmtree(work)
    return formats


def _claim(place: Bucket, work: Path, expected: Mapping[str, set[str]]) -> None:
    """Make sure that nobody else writes there, and that nothing of others lies there."""
    mine = json.loads((work / _OWNER).read_text(encoding="utf-8"))["owner"]
    found = place.read(CLAIM)
    if found is None:
        if (there := place.sizes()) and not (work / CLAIM).is_file():  # else it ended when it was finished
            raise SynthGainError(
                f"{place}: holds {counted(len(there), 'object')}, {min(there)} among them; an export needs a prefix of"
                " its own: name another, or remove them"
            )
        claim = {"owner": mine, "host": socket.gethostname(), "folder": str(work.resolve())}
        write_text(work / CLAIM, json.dumps(claim))
        place.put(CLAIM, work / CLAIM)
        found = place.read(CLAIM)
    holder = _claimed_by(found)
    if holder.get("owner") != mine:
        raise SynthGainError(
            f"{place}: another export writes there (from {holder.get('host')}, {holder.get('folder')}); wait for it, or"
            f" name another prefix. If it is dead, remove {CLAIM} there and what lies beside it"
        )
    if strange := [
        path
        for path in place.sizes()
        if path != CLAIM
        and path.partition("/")[2] not in expected.get(path.partition("/")[0], set()) | _BESIDE
    ]:
        raise SynthGainError(f"{place}: holds {strange[0]}, which is not of this export; name another prefix")
    print(f"unfinished until its manifest is there: {place}", file=sys.stderr)


def _claimed_by(content: bytes | None) -> dict[str, Any]:
    try:
        claim = json.loads(content or b"{}")
    except ValueError:
        claim = {}
    return claim if isinstance(claim, dict) else {}


def _put_what_is_beside(place: Bucket, folder: Path) -> None:
    """The sample table, the card and the hashes; the manifest last: with it the export is there."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in sorted(names, key=lambda name: (name == MANIFEST, name)):
        place.put(name, folder / name)


def _check(place: Bucket, work: Path, formats: Sequence[str]) -> None:
    """Whether the store lists what the manifests say, and nothing else."""
    there = place.sizes()
    for name in formats:
        manifest = json.loads((work / name / MANIFEST).read_text(encoding="utf-8"))
        wanted = {f"{name}/{path}": facts["bytes"] for path, facts in manifest["files"].items()}
        wanted |= {f"{name}/{path}": (work / name / path).stat().st_size for path in _BESIDE}
        found = {path: size for path, size in there.items() if path.startswith(f"{name}/")}
        if wanted != found:
            differing = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
            raise SynthGainError(
                f"{place}: {differing} is not what was put there; remove the prefix, and give the same command again"
            )


def unfinished(root: Path) -> list[tuple[Path, str]]:
    """Folder and address of each export to a store that was begun from here, is not finished and nobody is at."""
    found = []
    for file in sorted((root / FOLDER).glob(f"*/{_OWNER}")):
        if is_being_written(file.parent):
            continue
        try:
            address = str(json.loads(file.read_text(encoding="utf-8"))["address"])
        except (OSError, ValueError, KeyError, TypeError):
            address = "unknown address"
        found.append((file.parent.relative_to(root), address))
    return found
