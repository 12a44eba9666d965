"""The store of finished results, and the states of trainings that were cut off: looked at, and put in order."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pipeline.errors import SynthGainError
from pipeline.maintenance.findings import Check, Finding
from pipeline.maintenance.half_written import clear_unless_written
from pipeline.runtime.code import ROOT, code_sha256
from pipeline.runtime.outputs import (
    WORK,
    is_being_written,
    only_writer,
    output_of_temporary,
)
from pipeline.runtime.progress import counted, progress
from pipeline.runtime.store import (
    damaged_file,
    finished_results,
    is_given_up,
    kind_of,
    origin_of,
    shrink,
    size_of,
    this_store,
    unfinished_states,
)

# `doctor --fix` is the first step of every run, and hashes no more than this: less than a second.
_MOST_HASHED_BYTES = 256 << 20


def stored_results(root: Path) -> Check:
    """How much the store holds, each result of it verified, and the trainings that were cut off."""
    store = root / this_store()
    results = finished_results(store)
    states = unfinished_states(store)
    sizes = {folder: size_of(folder) for folder in results}
    findings = []
    with progress("verifying the store", sum(sizes.values()) / 1e6, "MB") as advance:
        for folder, size in sizes.items():
            name = damaged_file(folder)
            if name is not None:
                findings.append(_damaged_result(folder, name, root))
            advance(size / 1e6)
    kept = [state for state in states if is_given_up(state) and is_of_this_code(state, root) is not False]
    findings += [
        _cut_off(state, root) for state in states if state not in kept and not is_being_written(state)
    ]
    findings += [_earlier_state(folder, root) for folder in _earlier_states(root)]
    if not results and not states:
        return Check("store", "no results yet", findings)
    seen = f"{counted(len(results), 'result')}, {sum(sizes.values()) / 1e6:.1f} MB"
    if states:
        kinds = ", ".join(kind_of(state) + " that collapsed" * (state in kept) for state in states)
        seen += f"; {counted(len(states), 'unfinished training')} ({kinds})"
    return Check("store", seen, findings)


def results_of_this_code(root: Path) -> int:
    """How many results the store holds that the code of a project or workspace would compute again as they are."""
    return sum(bool(is_of_this_code(folder, root)) for folder in finished_results(root / this_store()))


def is_of_this_code(folder: Path, root: Path) -> bool | None:
    """Whether a result, or the state of one, is by the code that lies in `root`; None where that is not known.

    It is not known where the folder does not say what computed it, and in a workspace of another version, which may
    choose the files that count in another way.
    """
    origin = origin_of(folder)
    code, module = origin.get("code"), origin.get("module")
    if not isinstance(code, str) or not isinstance(module, str):
        return None
    project = root.resolve() if (root / "pipeline").is_dir() else ROOT
    if not _counts_the_same_files(project):
        return None
    if not (project / (module.replace(".", "/") + ".py")).is_file():
        return False
    try:
        return code_sha256(module, project) == code
    except (OSError, SyntaxError, ValueError):  # somebody is in the middle of an edit
        return None


def tidy_store(root: Path) -> Iterator[str]:
    """Remove what no run can use from the store, and the oldest results where it is too large; a line for each.

    Of a store that holds more than 256 MB, only the results that were used last are verified; a stage verifies
    every result before it takes it. A store that workspaces share keeps the states of trainings: they may be others'.
    """
    store = root / this_store()
    for temporary in sorted(store.glob(".*.tmp")):
        result = output_of_temporary(temporary)
        if clear_unless_written(result):
            yield f"{_name(result, root)}: a result that was half-written when its process was killed; removed"
    if "SYNTHGAIN_STORE" not in os.environ:
        for state in unfinished_states(store):
            if is_of_this_code(state, root) is False and _remove(state):
                yield f"{_name(state, root)}: the state of a training by code that has changed since; removed"
    hashed = 0
    for folder in finished_results(store):
        hashed += size_of(folder)
        if hashed > _MOST_HASHED_BYTES:
            break
        name = damaged_file(folder)
        if name is not None and _remove(folder):
            yield f"{_name(folder, root)}: damaged ({name}); removed"
    removed = shrink(store)
    if removed:
        yield f"{_name(store, root)}: full; {counted(removed, 'result')} not used for longest removed"


def _damaged_result(folder: Path, name: str, root: Path) -> Finding:
    return Finding(
        f"damaged: {name} is missing, or not what was stored",
        _name(folder, root),
        f"`rm -r {_name(folder, root)}`; a stage that needs it does so too, and computes it again",
    )


def _cut_off(state: Path, root: Path) -> Finding:
    where = _name(state, root)
    problem = f"the state of a {kind_of(state)} training that was cut off ({size_of(state) / 1e6:.1f} MB)"
    if is_of_this_code(state, root) is False:
        remedy = (
            f"`rm -r {where}`" if "SYNTHGAIN_STORE" in os.environ else "`synthgain doctor --fix` removes it"
        )
        return Finding(f"{problem}; the code has changed since and cannot go on from it", where, remedy)
    return Finding(
        problem,
        where,
        f"`dvc repro` goes on from it, unless data or parameters have changed since: then `rm -r {where}`",
    )


def _earlier_states(root: Path) -> list[Path]:
    """Version 0.1.0 kept the states of trainings in folders of the work folder itself."""
    work = root / WORK
    known = {root / this_store(), work / "store", work / "unfinished"}
    if not work.is_dir():
        return []
    return sorted(path for path in work.iterdir() if path.is_dir() and path not in known)


def _earlier_state(folder: Path, root: Path) -> Finding:
    where = _name(folder, root)
    return Finding("kept by an earlier version; this one does not read it", where, f"`rm -r {where}`")


@cache
def _counts_the_same_files(project: Path) -> bool:
    rules = Path("pipeline/runtime/code.py")
    try:
        return (project / rules).read_bytes() == (ROOT / rules).read_bytes()
    except OSError:
        return False


def _remove(folder: Path) -> bool:
    """Remove a folder of the store, unless somebody is writing it."""
    try:
        with only_writer(folder):
            shutil.rmtree(folder)
    except (SynthGainError, OSError):  # what cannot be removed stops no run
        return False
    return True


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
