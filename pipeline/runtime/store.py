"""Finished results by what they were computed from: nothing is computed twice, whatever DVC thinks has changed.

A result's key is the hash of all that it depends on: the code that computes it (its import closure, without the tables
of arms and policies), the recipe as values, the data, the seed, and the versions and kind of the machine. The store
lies in the work folder, outside DVC's outs and Git, and losing it costs time only. A training that is not finished
keeps its state under the key of its result.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import SynthGainError
from pipeline.runtime.code import code_sha256, file_sha256
from pipeline.runtime.outputs import WORK, atomic_output, only_writer

if TYPE_CHECKING:
    import torch

# Of all results together; those that were used last stay. A study of a thousand classifiers takes one of them.
MOST_BYTES = 4 << 30

_SUMS, _ORIGIN = "SHA256SUMS", "computed_from.json"
_GIVEN_UP = "given_up.txt"  # in the state of a training that has stopped by itself: why
_UNFINISHED = "unfinished"  # beside the store


@dataclass(frozen=True)
class Key:
    """What a result is computed from.

    Attributes:
        kind: `gan`, `classifier` …: for people who look into the folder.
        digest: of all of it.
        origin: all of it but the data, for the doctor.
    """

    kind: str
    digest: str
    origin: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.kind}-{self.digest[:24]}"


def result_key(
    kind: str,
    compute: Callable[..., Any],
    *,
    recipe: Mapping[str, Any],
    data: str,
    device: torch.device,
    dtype: torch.dtype,
) -> Key:
    """The key of a result.

    Args:
        kind: of result.
        compute: the function that computes it: the files that its module is made of count.
        recipe: all values that it depends on (JSON), the seed among them.
        data: hash of the images.
        device, dtype: where and in what it is computed. Threads are no part of it: another number may give other
            bytes, and they are as good.
    """
    import torch

    origin = {
        "code": code_sha256(compute.__module__),
        "module": compute.__module__,
        "recipe": dict(recipe),
        "torch": version("torch"),
        "computed": [
            device.type,
            str(dtype),
            cpu_capability() if device.type == "cpu" else torch.cuda.get_device_name(),
        ],
    }
    text = json.dumps([origin, data], sort_keys=True)
    return Key(kind, hashlib.sha256(text.encode()).hexdigest(), origin)


def cpu_capability() -> str:
    """What decides the last bits of a result on this processor: `AVX512, avx512_bf16, amx_bf16`.

    An AMD EPYC (AVX512-BF16) and an Intel Xeon that has AMX too are both AVX512, and their bfloat16 products differ.
    """
    import torch

    able = torch.cpu.get_capabilities()
    return ", ".join(
        [
            torch.backends.cpu.get_cpu_capability(),
            *(name for name in ("avx512_bf16", "amx_bf16") if able.get(name)),
        ]
    )


def this_store() -> Path:
    """The folder of the store: `.work/store`, or the one that SYNTHGAIN_STORE names, for workspaces that share it."""
    return Path(os.environ.get("SYNTHGAIN_STORE") or WORK / "store")


def find_result(store: Path, key: Key) -> Path | None:
    """The folder of a finished result, each of its files verified; None if there is none. A damaged one is removed."""
    folder = store / key.name
    if not folder.is_dir():
        return None
    if damaged_file(folder) is not None:
        shutil.rmtree(folder)
        return None
    os.utime(folder)  # it was used
    return folder


def stored_result(store: Path, key: Key) -> Path:
    """The folder of a result that was kept a moment ago.

    Raises:
        SynthGainError: if it has gone since: by hand, or because another process made room.
    """
    folder = find_result(store, key)
    if folder is None:
        raise SynthGainError(f"{store / key.name}: no longer there; give the same command again")
    return folder


@contextmanager
def keep_result(store: Path, key: Key) -> Iterator[Path]:
    """A folder for the files of a result; when the block ends well it is in the store, whole or not at all.

    The state of its training is not needed any more then, and removed.
    """
    with atomic_output(store / key.name) as folder:
        folder.mkdir()
        yield folder
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sums = "".join(f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
        _write_origin(folder, key)
        (folder / _SUMS).write_text(sums, encoding="utf-8")
    shutil.rmtree(_state(store, key), ignore_errors=True)


@contextmanager
def unfinished(store: Path, key: Key) -> Iterator[Path]:
    """The folder for the state of a training that is not finished; one process at a time works on a result.

    Raises:
        SynthGainError: if another process is at the same work.
    """
    folder = _state(store, key)
    with only_writer(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _GIVEN_UP).unlink(missing_ok=True)
        _write_origin(folder, key)
        yield folder


def give_up(folder: Path, reason: str) -> None:
    """Say in the folder of `unfinished` that the training has stopped by itself, and that its state is kept."""
    (folder / _GIVEN_UP).write_text(f"{reason}\n", encoding="utf-8")


def is_given_up(folder: Path) -> bool:
    """Whether the state is of a training that has stopped by itself: no run goes on from it as things are."""
    return (folder / _GIVEN_UP).is_file()


def damaged_file(folder: Path) -> str | None:
    """The first file of a stored result that is missing or not what was stored; None if all are."""
    try:
        lines = (folder / _SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return _SUMS
    for line in lines:
        digest, _, name = line.partition("  ")
        if not (folder / name).is_file() or file_sha256(folder / name) != digest:
            return name
    return None if lines else _SUMS  # emptied, as by a power cut of a file system that keeps no order


def origin_of(folder: Path) -> Mapping[str, Any]:
    """What a result, or the state of one, says it is computed from; empty if it does not."""
    try:
        return dict(json.loads((folder / _ORIGIN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def finished_results(store: Path) -> list[Path]:
    """The folders of all results, the one that was used last first."""
    if not store.is_dir():
        return []
    folders = (path for path in store.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)


def unfinished_states(store: Path) -> list[Path]:
    """The folders of the states of all trainings that are not finished, by name."""
    folder = store.with_name(_UNFINISHED)
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def kind_of(folder: Path) -> str:
    """`gan`, `classifier` …: the kind of a result, or of the state of one."""
    return folder.name.rpartition("-")[0]


def size_of(folder: Path) -> int:
    """The bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def shrink(store: Path, most_bytes: int = MOST_BYTES) -> int:
    """Remove the results that were not used for longest, until the others fit; how many went."""
    total = removed = 0
    for folder in finished_results(store):
        total += size_of(folder)
        if total > most_bytes:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _state(store: Path, key: Key) -> Path:
    return store.with_name(_UNFINISHED) / key.name


def _write_origin(folder: Path, key: Key) -> None:
    text = json.dumps(dict(key.origin), sort_keys=True, indent=1)
    (folder / _ORIGIN).write_text(text, encoding="utf-8")
