"""Outputs of stages that were half-written when a stage was killed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from pipeline.errors import SynthGainError
from pipeline.maintenance.findings import Check, Finding
from pipeline.runtime.outputs import (
    clear_leftovers,
    is_being_written,
    only_writer,
    output_of_temporary,
    writer_of,
)
from pipeline.runtime.stage_inputs import read_yaml
from pipeline.runtime.store import this_store, unfinished_states


def half_written_outputs(root: Path) -> Check:
    """What lies half-written beside and within the outputs of dvc.yaml and in stores, and that nobody is writing."""
    from pipeline.export.upload import unfinished

    findings = [
        Finding(
            "part of an export in an object store, left by a command that was killed",
            address,
            f"the same command from here goes on; or remove what lies there, and {folder}",
        )
        for folder, address in unfinished(root)
    ]
    for temporary in temporaries(root, "tmp"):
        if is_being_written(output_of_temporary(temporary)):
            continue
        problem = "half-written, left by a stage that was killed"
        remedy = "`synthgain doctor --fix` removes it, and so does the stage's next run"
        if temporary.name.endswith(".before.tmp"):  # see `atomic_output`: it may be the only whole one
            problem = "an earlier output, left by a stage that was killed while it put the next in its place"
            remedy = "`synthgain doctor --fix`, or the stage's next run, puts it back or removes it"
        findings.append(Finding(problem, str(temporary.relative_to(root)), remedy))
    for partial in temporaries(root, "partial"):
        where = str(partial.relative_to(root))
        findings.append(
            Finding(
                "part of an output, left by a command that was killed",
                where,
                f"the same command goes on from it, or `rm -r {where}`",
            )
        )
    return Check("half-written outputs", "" if findings else "none", findings)


def held_locks(root: Path) -> list[str]:
    """`data/gan/60 is being written by process 12`: outputs, states of trainings and the folder itself.

    A command that is refused by such a lock says which process holds it; this is where to look it up.
    """
    outputs = {path for pattern in _output_patterns(root / "dvc.yaml") for path in root.glob(str(pattern))}
    outputs |= {output_of_temporary(path) for path in temporaries(root, "tmp")}
    states = unfinished_states(root / this_store())
    held = ((path, writer_of(path)) for path in [root, *sorted(outputs), *states])
    return [
        f"{path.relative_to(root) if path != root else path.resolve()} is being written by process {pid}"
        for path, pid in held
        if pid is not None
    ]


def clear_half_written(root: Path) -> Iterator[str]:
    """Remove half-written outputs, and put back whole ones that were aside; a line for each output."""
    for output in dict.fromkeys(output_of_temporary(path) for path in temporaries(root, "tmp")):
        existed = output.exists()
        if not clear_unless_written(output):
            continue
        where = output.relative_to(root)
        if output.exists() and not existed:
            yield f"{where}: a killed stage had put it aside; put back"
        else:
            yield f"{where}: a killed stage left it half-written; the rest of it is removed"


def clear_unless_written(output: Path) -> bool:
    """Clear what was left of an output, unless somebody is writing it; whether that is done."""
    try:
        with only_writer(output):
            clear_leftovers(output)
    except (SynthGainError, OSError):  # what cannot be removed stops no run
        return False
    return True


def temporaries(root: Path, ending: str) -> list[Path]:
    """Hidden files and folders `.<name>.<ending>` beside the outputs of dvc.yaml, and in those that are folders.

    Nowhere else: a folder of the user's own images may lie under `data` too.
    """
    found = set()
    for pattern in _output_patterns(root / "dvc.yaml"):
        beside = pattern.with_name(f".{pattern.name}.{ending}")
        found |= set(root.glob(str(beside)))
        for output in root.glob(str(pattern)):
            if output.is_dir() and not output.name.endswith((".tmp", ".partial")):
                found |= set(output.rglob(f".*.{ending}"))
    inside = {path for path in found if any(parent in found for parent in path.parents)}
    return sorted(found - inside)


def _output_patterns(dvc_yaml: Path) -> list[Path]:
    """The outputs of all stages as patterns: a coordinate of the matrix, `${item.budget}`, may be anything."""
    try:
        stages = read_yaml(dvc_yaml)["stages"].values()
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return []  # not ours, or somebody is in the middle of an edit; DVC says what is wrong with it
    entries = [
        entry for stage in stages for section in ("outs", "metrics") for entry in stage.get(section, [])
    ]
    outputs = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    return [Path(re.sub(r"\$\{[^}]*\}", "*", output)) for output in outputs]
