"""DVC's own files after a kill. It writes two of them in place: killed in that moment, it refuses to start again.

Nothing is lost by that: outputs lie in DVC's cache, and its run cache knows which stage made them from what.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import yaml

from pipeline.maintenance.findings import Check, Finding
from pipeline.runtime.outputs import write_text
from pipeline.runtime.stage_inputs import read_yaml

RWLOCK, LOCK = Path(".dvc/tmp/rwlock"), Path("dvc.lock")
# Longer than a DVC that is running takes to write either file.
_WRITTEN_SECONDS = 0.3


def half_written(root: Path) -> list[Path]:
    """Those of the two files that DVC could not read, relative to `root`."""
    found = [path for path in (RWLOCK, LOCK) if _is_broken(root, path)]
    if found:
        time.sleep(_WRITTEN_SECONDS)
    return [path for path in found if _is_broken(root, path)]


def dvc_files(root: Path) -> Check:
    """Whether DVC can read its own files; if not, it does not start."""
    problem = "half-written by a killed DVC, which refuses to start now"
    findings = [Finding(problem, str(path), "`synthgain doctor --fix`") for path in half_written(root)]
    return Check("DVC files", "" if findings else "whole", findings)


def put_away_half_written(root: Path) -> list[str]:
    """Put away what a killed DVC left half-written; return a line for each file.

    `.dvc/tmp/rwlock` says which process reads or writes what, and is removed. A broken `dvc.lock` is kept beside
    itself, and Git's last version takes its place; the run cache gives back what was finished since.
    """
    lines = []
    for path in half_written(root):
        if path == RWLOCK:
            (root / path).unlink()
            lines.append(f"{path}: half-written by a killed DVC; removed")
            continue
        os.replace(root / path, root / f"{path}.broken")
        committed = _committed(root, path)
        if committed is not None:
            write_text(root / path, committed)
        source = "Git's version is in its place" if committed is not None else "DVC writes a new one"
        lines.append(f"{path}: half-written by a killed DVC; kept as {path}.broken, {source}")
    return lines


def _is_broken(root: Path, path: Path) -> bool:
    from dvc.rwlock import SCHEMA as RWLOCK_SCHEMA
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        if path == RWLOCK:
            RWLOCK_SCHEMA(json.loads((root / path).read_text(encoding="utf-8")))
        else:
            COMPILED_LOCKFILE_SCHEMA(read_yaml(root / path))
    except FileNotFoundError:
        return False
    except (ValueError, yaml.YAMLError, Invalid):  # ValueError: no JSON, no UTF-8
        return True
    return False


def _committed(root: Path, path: Path) -> str | None:
    """The file's text in the last commit; None without Git, without a commit, or where it is not in it."""
    try:
        shown = subprocess.run(
            ["git", "show", f"HEAD:./{path}"], cwd=root, capture_output=True, encoding="utf-8", check=False
        )
    except FileNotFoundError:
        return None
    return shown.stdout if shown.returncode == 0 else None
