"""What a stage was started with must be what DVC writes down when the stage ends.

DVC hashes params and deps after the command. Without this check, a `params.yaml` that is edited while a stage runs
would stand in `dvc.lock` over a result of the old values, and DVC's run cache would give that result back for ever.
Only an edit within DVC's own last moment, after the stage has ended, is not seen.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import SynthGainError
from pipeline.runtime.code import CODE, file_sha256
from pipeline.runtime.outputs import outputs_checked_by

_NOT_THERE = "not there"


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
        entry = _read_values(Path("dvc.yaml"))["stages"][stage]
    except (KeyError, TypeError):
        return None
    values = _read_values(params_file)
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
def same_inputs(stage: StageInputs) -> Iterator[None]:
    """Fail, before any output takes its place, if an input has changed since the beginning of the block.

    What was trained is in the store then: with the old values put back, the next run finds it.

    Raises:
        SynthGainError: naming what has changed.
    """
    start = _snapshot(stage)

    def check(path: Path) -> None:
        if str(path) in stage.outs:
            _refuse_changes(stage, start)

    with outputs_checked_by(check):
        yield
    _refuse_changes(stage, start)  # since the last output, or by a stage that writes them in another way


def _refuse_changes(stage: StageInputs, start: _Snapshot) -> None:
    changes = _changes(start, _snapshot(stage))
    if changes:
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        raise SynthGainError(
            f"{stage.name}: {changes[0]}{more} while this stage ran, and DVC would write the new state down over a"
            " result of the old; run `dvc repro` again, or put it back first: what was trained is kept"
        )


@dataclass(frozen=True)
class _Snapshot:
    """Values of the parameters, a hash of each file of code, sizes and times of the data, which takes long to hash."""

    params: Mapping[str, Any]
    code: Mapping[str, str]
    data: Mapping[str, Any]


def _snapshot(stage: StageInputs) -> _Snapshot:
    values = _read_values(stage.params_file)
    params: dict[str, Any] = {}
    for key in stage.params:
        params |= _leaves(_value(values, key), key)
    code: dict[str, str] = {}
    data: dict[str, Any] = {}
    for dep in stage.deps:
        path = Path(dep)
        if path.parts[:1] and path.parts[0] in CODE:
            code |= {str(file): file_sha256(file) for file in _files(path)}
        else:
            data[dep] = [
                (str(file), status.st_size, status.st_mtime_ns)
                for file in _files(path)
                for status in (file.lstat(),)
            ]
    return _Snapshot(params, code, data)


def _changes(before: _Snapshot, after: _Snapshot) -> list[str]:
    found = []
    for key in sorted({*before.params, *after.params}):
        old, new = before.params.get(key, _NOT_THERE), after.params.get(key, _NOT_THERE)
        if old != new:
            found.append(f"{key} in params.yaml went from {old} to {new}")
    found += [
        f"{file} changed"
        for file in sorted({*before.code, *after.code})
        if before.code.get(file) != after.code.get(file)
    ]
    return found + [f"{path} changed" for path in before.data if before.data[path] != after.data[path]]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.exists() else []
    found = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    return sorted(file for file in found if "__pycache__" not in file.parts)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; libyaml, where it is there, is ten times as fast."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)


def _read_values(path: Path) -> Any:
    """The values of a file, valid or not: the stage itself says what is wrong with it."""
    try:
        return read_yaml(path)
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
