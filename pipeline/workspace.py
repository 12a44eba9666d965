"""A workspace: a folder with the same pipeline and its own params, data and results."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.errors import SynthGainError
from pipeline.params import dump_params, overlay_params
from pipeline.runtime import write_text

PROJECT = Path(__file__).resolve().parents[1]
# What a workspace takes from the project. Its data, results and lock file stay its own.
_CODE = ("pipeline", "stages", "dvc.yaml", ".dvcignore")
_MARK = ".synthgain-workspace"


def create_workspace(folder: Path, *, changes: Path) -> None:
    """Make or refresh a workspace: code and dvc.yaml of this project, params.yaml with `changes` laid over it.

    It is a DVC repository of its own, without Git. Results that are already there stay, so that a second
    `dvc repro` runs only what has changed.

    Raises:
        SynthGainError: if the folder holds something else, or the parameters are not valid.
    """
    if not (PROJECT / "dvc.yaml").is_file():
        raise SynthGainError(f"{PROJECT}: no dvc.yaml there; run this from a clone of the project")
    if folder.exists() and not (folder / _MARK).is_file() and any(folder.iterdir()):
        raise SynthGainError(f"{folder}: not empty and no workspace of ours; name another folder")
    params = overlay_params(PROJECT / "params.yaml", changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    for name in _CODE:
        source, target = PROJECT / name, folder / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    own = folder / params.data.folder
    if not own.exists():  # the download stage depends on it, whether or not the source is a folder
        own.mkdir(parents=True)
        shutil.copyfile(PROJECT / "data/own/README.md", own / "README.md")
    text = dump_params(params)
    if not (folder / "params.yaml").is_file() or (folder / "params.yaml").read_text() != text:
        write_text(folder / "params.yaml", text)
    if not (folder / ".dvc").is_dir():
        # --subdir would tie it to the clone's Git: --no-scm stands on its own.
        dvc(folder, "init", "--no-scm", "--quiet")
        dvc(folder, "config", "core.analytics", "false")
        dvc(folder, "config", "core.check_update", "false")


def dvc(folder: Path, *arguments: str) -> None:
    """Run DVC in a folder with this Python's environment.

    Raises:
        SynthGainError: if it fails; its own output has said why.
    """
    # Stages call `python`: it must be the one that runs now, whether or not its environment is activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, env=environment, check=False)
    if done.returncode:
        raise SynthGainError(
            f"dvc {' '.join(arguments)} failed in {folder}; the lines above say why. Finished stages are kept:"
            " the same command goes on from there"
        )
