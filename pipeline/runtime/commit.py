"""Which commit of the project computes: a fact of records, and of no result."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

from pipeline.runtime.code import ROOT

WORKSPACE_MARK = ".synthgain-workspace"  # a workspace's code is a copy: its mark says of which commit


def project_commit(root: Path = ROOT) -> str:
    """The commit's hash, `+changes` where code has changed since; without Git, the version: `version 0.2.0`."""
    mark = root / WORKSPACE_MARK
    if mark.is_file():
        return mark.read_text(encoding="utf-8").strip() or "unknown"
    top = git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return f"version {version('synthgain')}"
    changed = git(root, "status", "--porcelain", "--", "pipeline", "stages", "params.yaml")
    return f"{git(root, 'rev-parse', 'HEAD')}{'+changes' if changed else ''}"


def git(root: Path, *arguments: str, seconds: float | None = None) -> str | None:
    """What Git says in a folder; None without Git, where it refuses, or after so many seconds."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", check=True, timeout=seconds
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
