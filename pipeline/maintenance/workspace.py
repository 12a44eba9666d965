"""A workspace: a folder with the same pipeline and its own params, data and results."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path, PurePosixPath

from pipeline.errors import SynthGainError
from pipeline.maintenance.processes import running_commands
from pipeline.params import Params, dump_params, overlay_params
from pipeline.runtime.code import CODE, ROOT
from pipeline.runtime.commit import WORKSPACE_MARK, project_commit
from pipeline.runtime.home import require_home
from pipeline.runtime.outputs import only_writer, write_text

# dvc.yaml, params.yaml, studies: a clone and a workspace have them beside the code, a wheel in a folder (setup.py).
PROJECT = ROOT if (ROOT / "dvc.yaml").is_file() else ROOT / "synthgain/project"
# What a workspace takes from the project beside `CODE`. Its data, results and lock file stay its own.
_FILES = ("dvc.yaml", ".dvcignore")
# Folders that stages depend on, whether or not a study uses them; a new workspace has the README of each.
_PLACEHOLDERS = ("own/generator", "own/classifier", "data/generated")


def create_workspace(folder: Path, *, changes: Path) -> Params:
    """Make or refresh a workspace: code and dvc.yaml of this project, params.yaml with `changes` laid over it.

    It is a DVC repository of its own, without Git. Results that are already there stay, so that a second
    `dvc repro` runs only what has changed. Code of one's own that the parameters name is copied: it lies beside
    `changes`, or in the project.

    Returns:
        The parameters of the workspace.

    Raises:
        SynthGainError: if there is no home folder, the folder holds something else, a stage or a DVC is running in
            it, or the parameters are not valid. Nothing has changed then.
    """
    require_home()
    if not (PROJECT / "dvc.yaml").is_file():
        raise SynthGainError(
            f"{PROJECT}: no dvc.yaml there; install the project's wheel, or run this from a clone"
        )
    if folder.exists() and not (folder / WORKSPACE_MARK).is_file() and any(folder.iterdir()):
        raise SynthGainError(f"{folder}: not empty and no workspace of ours; name another folder")
    params = overlay_params(PROJECT / "params.yaml", changes)
    with only_writer(folder):
        _refuse_running(folder)
        own = _own_folder(folder, params)
        code = _own_code(params, beside=changes.parent)
        folder.mkdir(parents=True, exist_ok=True)
        _fill(folder, params, own)
        for path, source in code.items():
            _copy(source, folder / path)
    return params


def _refuse_running(folder: Path) -> None:
    """A run in the workspace would go on with other code and values than it began with."""
    running = running_commands(folder)
    if running:
        raise SynthGainError(
            f"{folder}: {running[0]} is running in it; wait for its end, or stop it, and give the command again"
        )


def _own_folder(folder: Path, params: Params) -> Path | None:
    """The folder for own images if the workspace is to make it; one outside of it must be there."""
    named = PurePosixPath(params.data.folder)
    if not named.is_absolute() and ".." not in named.parts:
        return folder / named
    if not Path(os.path.normpath(folder.absolute() / named)).is_dir():  # the workspace may not be there yet
        raise SynthGainError(
            f"data.folder: found {params.data.folder}, which is no folder (seen from {folder}); make it, or name"
            " one in the workspace, such as data/own"
        )
    return None


def _own_code(params: Params, *, beside: Path) -> dict[str, Path]:
    """Where the code that the parameters name lies now, by its path in the workspace."""
    found = {}
    for key, path in params.own_code_paths().items():
        places = [root / path for root in (beside, PROJECT) if (root / path).exists()]
        if not places:
            raise SynthGainError(
                f"{key}: found {path}, which is neither beside the parameters ({beside}) nor in {PROJECT}; name your"
                " file or folder of code, seen from there"
            )
        found[path] = places[0]
    return found


def _copy(source: Path, target: Path) -> None:
    """A file or a folder of code in the place of what was there; with the same content, its times do not change."""
    if source.resolve() == target.resolve():  # the parameters lie in the workspace
        return
    if target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


def _fill(folder: Path, params: Params, own: Path | None) -> None:
    write_text(folder / WORKSPACE_MARK, f"{project_commit(PROJECT)}\n")
    for name in CODE:
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        shutil.copyfile(PROJECT / name, folder / name)
    # The download stage depends on it, whether or not the source is a folder.
    if own is not None and not own.exists():
        own.mkdir(parents=True)
        shutil.copyfile(PROJECT / "data/own/README.md", own / "README.md")
    for name in _PLACEHOLDERS:
        if not (folder / name).exists():
            (folder / name).mkdir(parents=True)
            shutil.copyfile(PROJECT / name / "README.md", folder / name / "README.md")
    text = dump_params(params)
    own_params = folder / "params.yaml"
    if not own_params.is_file() or own_params.read_bytes() != text.encode():
        write_text(own_params, text)
    if not (folder / ".dvc").is_dir():
        # --subdir would tie it to the clone's Git: --no-scm stands on its own.
        dvc(folder, "init", "--no-scm", "--quiet")
        # In DVC's section [core], the only one so far. `dvc config` writes the same, a process for each line.
        with (folder / ".dvc/config").open("a", encoding="utf-8") as config:
            config.write("    analytics = false\n    check_update = false\n")


def dvc(folder: Path, *arguments: str) -> None:
    """Run DVC in a folder with this Python's environment.

    Raises:
        SynthGainError: if it fails; its own output has said why.
    """
    # Stages call `python`: it must be the one that runs now, whether or not its environment is activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    # Else `dvc init` would send a report, from a process that goes on: the setting that forbids it is not there yet.
    environment["DVC_NO_ANALYTICS"] = "1"
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, env=environment, check=False)
    if done.returncode:
        raise SynthGainError(
            f"{folder}: dvc {' '.join(arguments)} {_ending(done.returncode)}. Finished stages are kept: the same"
            " command goes on from there"
        )


def _ending(status: int) -> str:
    """How a command ended: by its own words, or by a signal, which lets it say nothing."""
    number = -status if status < 0 else status - 128  # of a shell
    try:
        return f"was ended by a signal ({signal.Signals(number).name})"
    except ValueError:
        return "failed; the lines above say why"
