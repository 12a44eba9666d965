"""Which files of this project a module is made of: what a stage depends on, and what computed a stored result."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pipeline.errors import SynthGainError

ROOT = Path(__file__).resolve().parents[2]
# The folders of code that stages are made of; a workspace has them too.
CODE = ("pipeline", "stages")

# They have no influence on a result: how values are read, checked, shown and failed on, where work runs, and the
# tables of which only the values of a row reach a computation.
NO_INFLUENCE = frozenset(
    {
        "stages/__init__.py",
        "stages/command.py",
        "pipeline/errors.py",
        "pipeline/params.py",
        "pipeline/redaction.py",
        "pipeline/runtime/cluster.py",
        "pipeline/runtime/code.py",
        "pipeline/runtime/parallel.py",
        "pipeline/runtime/progress.py",
        "pipeline/runtime/stage_inputs.py",
        "pipeline/runtime/store.py",
    }
)
TABLES = frozenset({"pipeline/study/arms.py", "pipeline/augmentation/policies.py"})


def import_closure(source: Path, *, root: Path = ROOT, without: frozenset[str] = NO_INFLUENCE) -> set[str]:
    """The project's files that a file is made of: itself and what it imports, at any depth, also within functions.

    Paths relative to `root`. Packages that hold nothing but a docstring are left out, and so are the files of
    `without`, with all that only they import.
    """
    waiting, seen = [source], set()
    while waiting:
        file = waiting.pop()
        if file not in seen and str(file.relative_to(root)) not in without:
            seen.add(file)
            waiting += _imported_files(file, root)
    return {str(file.relative_to(root)) for file in seen if not _is_only_docstring(file)}


@cache
def code_sha256(module: str, root: Path = ROOT) -> str:
    """The hash of all files that a module is made of, without the tables: names and bytes.

    `root` is the project, or a workspace with code of its own.
    """
    source = root / (module.replace(".", "/") + ".py")
    names = sorted(import_closure(source, root=root, without=NO_INFLUENCE | TABLES))
    return _names_and_bytes_sha256((root / name for name in names), root)


def path_sha256(path: Path, *, key: str) -> str:
    """The hash of a user's file, or of all files of a folder: names and bytes. Compiled Python does not count.

    Args:
        path: the file or folder.
        key: of the parameters, that names it.

    Raises:
        SynthGainError: if there is none.
    """
    if not path.exists():
        raise SynthGainError(f"{key}: found {path}, which is not there; name the file or folder of your code")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return _names_and_bytes_sha256((file for file in files if "__pycache__" not in file.parts), path)


def tree_sha256() -> str:
    """The hash of the whole library: names and bytes of its modules."""
    return _names_and_bytes_sha256(sorted((ROOT / "pipeline").rglob("*.py")), ROOT)


def file_sha256(path: Path) -> str:
    """The hash of a file's bytes, which may be many."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names_and_bytes_sha256(files: Iterable[Path], root: Path) -> str:
    """The hash of files in their order: their names below `root` and their bytes."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


@cache
def _imported_files(source: Path, root: Path) -> frozenset[Path]:
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in modules:
            path = root / module.replace(".", "/")
            found |= {file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()}
    return frozenset(found)


@cache
def _is_only_docstring(file: Path) -> bool:
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return file.name == "__init__.py" and all(isinstance(node, ast.Expr) for node in body)
