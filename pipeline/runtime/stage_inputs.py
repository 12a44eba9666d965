"""What a stage was started with must be what DVC writes down when the stage ends.

DVC hashes params and deps after the command. Without this check, a `params.yaml` that is edited while a stage runs
would stand in `dvc.lock` over a result of the old values, and DVC's run cache would give that result back for ever.
Only an edit within DVC's own last moment, after the stage has ended, is not seen.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import SynthGainError
from pipeline.runtime.outputs import WORK, atomic_output, outputs_go_to

_CODE = ("pipeline", "stages")
_NOT_THERE = "not there"
_COMPLETE = "complete"


@dataclass(frozen=True)
class StageInputs:
    """What `dvc.yaml` says of a running stage, with its templates filled in.

    Attributes:
        name: `train_augmented@60-2.0`.
        params_file: where its parameters stand.
        params: keys of it, whole sections or single values.
        deps, outs: paths.
    """

    name: str
    params_file: Path
    params: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]


def declared_inputs(
    stage: str, *, name: str, params_file: Path, arguments: Sequence[str]
) -> StageInputs | None:
    """The entry of a stage in the `dvc.yaml` of this folder; None if it has none.

    Args:
        stage: its name there.
        name: with the coordinates of the matrix.
        params_file: where its parameters stand.
        arguments: its command line, which holds the coordinates of the matrix.
    """
    try:
        entry = _read_yaml(Path("dvc.yaml"))["stages"][stage]
    except (KeyError, TypeError):
        return None
    values = _read_yaml(params_file)
    options = {
        option.lstrip("-").replace("-", "_"): value
        for option, value in itertools.pairwise(arguments)
        if option.startswith("--")
    }

    def filled(path: str | dict[str, Any]) -> str:
        text = path if isinstance(path, str) else next(iter(path))
        return re.sub(
            r"\$\{([\w.]+)\}",
            lambda found: str(
                options.get(found[1].removeprefix("item."), found[0])
                if found[1].startswith("item.")
                else _value(values, found[1])
            ),
            text,
        )

    outs = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
    return StageInputs(
        name,
        params_file,
        tuple(entry.get("params", ())),
        tuple(map(filled, entry.get("deps", ()))),
        tuple(map(filled, outs)),
    )


@contextmanager
def same_inputs(stage: StageInputs) -> Iterator[bool]:
    """Fail at the end of the block if an input has changed since its beginning; keep what was finished.

    Finished outputs then go into the work folder instead of to their places: with the old values put back, the next
    run takes them from there, and has nothing to do.

    Yields:
        Whether there is nothing to do.

    Raises:
        SynthGainError: naming what has changed.
    """
    start = _snapshot(stage)
    if _put_back(stage, start):
        print(f"{stage.name}: finished before, with these inputs; put in place", file=sys.stderr)
        yield True
        return
    aside = functools.cache(lambda: _aside(stage, start))  # once: it hashes the data
    kept: set[str] = set()
    placed: set[str] = set()

    def destination(path: Path) -> Path:
        if str(path) not in stage.outs:
            return path
        if not _may_be_kept(_changes(start, _snapshot(stage))):
            placed.add(str(path))
            return path
        kept.add(str(path))
        return aside() / path

    with outputs_go_to(destination):
        yield False
    changes = _changes(start, _snapshot(stage))
    if not changes:
        return
    if _may_be_kept(changes):
        for path in placed - kept:
            target = aside() / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
            kept.add(path)
    is_kept = bool(kept) and kept == set(stage.outs)
    if is_kept:
        (aside() / _COMPLETE).touch()
    elif kept:
        shutil.rmtree(aside())
    more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
    back = ", or put it back: the finished result is kept" if is_kept else ""
    raise SynthGainError(
        f"{stage.name}: {changes[0].text}{more} while this stage ran, and DVC would write the new state down over a"
        f" result of the old; run `dvc repro` again{back}"
    )


@dataclass(frozen=True)
class _Change:
    text: str
    is_data: bool


@dataclass(frozen=True)
class _Snapshot:
    """Values of the parameters, hashes of the code, sizes and times of the data: hashing those takes too long."""

    params: Mapping[str, Any]
    code: Mapping[str, str]
    data: Mapping[str, Any]


def _snapshot(stage: StageInputs) -> _Snapshot:
    values = _read_yaml(stage.params_file)
    params: dict[str, Any] = {}
    for key in stage.params:
        params |= _leaves(_value(values, key), key)
    code, data = {}, {}
    for dep in stage.deps:
        path = Path(dep)
        if path.parts[:1] and path.parts[0] in _CODE:
            code[dep] = _content(path)
        else:
            data[dep] = [
                (str(file), status.st_size, status.st_mtime_ns)
                for file in _files(path)
                for status in (file.lstat(),)
            ]
    return _Snapshot(params, code, data)


def _changes(before: _Snapshot, after: _Snapshot) -> list[_Change]:
    found = []
    for key in sorted({*before.params, *after.params}):
        old, new = before.params.get(key, _NOT_THERE), after.params.get(key, _NOT_THERE)
        if old != new:
            found.append(_Change(f"{key} in params.yaml went from {old} to {new}", False))
    found += [
        _Change(f"{file} changed", False) for file in before.code if before.code[file] != after.code[file]
    ]
    return found + [
        _Change(f"{dep} changed", True) for dep in before.data if before.data[dep] != after.data[dep]
    ]


def _may_be_kept(changes: Sequence[_Change]) -> bool:
    """A result of data that are there no more belongs to nothing that could come back."""
    return bool(changes) and not any(change.is_data for change in changes)


def _aside(stage: StageInputs, start: _Snapshot) -> Path:
    """The folder for the finished outputs of these very inputs."""
    content = {
        "params": start.params,
        "code": start.code,
        "data": {dep: _content(Path(dep)) for dep in start.data},
        "torch": version("torch"),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    return WORK / f"finished-{stage.name}-{digest[:16]}"


def _put_back(stage: StageInputs, start: _Snapshot) -> bool:
    """Whether these inputs have been worked on before: their outputs are in place then."""
    if not list(WORK.glob(f"finished-{stage.name}-*")):  # else every start would hash the data
        return False
    aside = _aside(stage, start)
    if not (aside / _COMPLETE).is_file() or not all((aside / out).exists() for out in stage.outs):
        return False
    for out in stage.outs:
        with atomic_output(Path(out)) as temporary:
            shutil.move(aside / out, temporary)
    shutil.rmtree(aside)
    return True


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.exists() else []
    found = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    return sorted(file for file in found if "__pycache__" not in file.parts)


def _content(path: Path) -> str:
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(f"{file.relative_to(path)}\n".encode())
        if file.is_file():
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _read_yaml(path: Path) -> Any:
    """The values of a file, valid or not: the stage itself says what is wrong with it."""
    try:
        return yaml.load(
            path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part, _NOT_THERE) if isinstance(values, Mapping) else _NOT_THERE
    return values


def _leaves(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {key: value}
    return {name: leaf for part in value for name, leaf in _leaves(value[part], f"{key}.{part}").items()}
