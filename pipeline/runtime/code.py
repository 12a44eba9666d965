"""Which files of this project a module is made of: what a stage depends on, and what computed a stored result."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

from pipeline.errors import SynthGainError

ROOT = Path(__file__).resolve().parents[2]

# They have no influence on a result: how values are read, checked, shown and failed on, where work runs, and the
# tables of which only the values of a row reach a computation.
NO_INFLUENCE = frozenset(
    {
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
    digest = hashlib.sha256()
    for name in sorted(import_closure(source, root=root, without=NO_INFLUENCE | TABLES)):
        digest.update(name.encode() + b"\0" + hashlib.sha256((root / name).read_bytes()).digest())
    return digest.hexdigest()


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
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        if "__pycache__" not in file.parts:
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def tree_sha256(root: Path = ROOT) -> str:
    """The hash of the whole library: names and bytes of its modules."""
    digest = hashlib.sha256()
    for file in sorted((root / "pipeline").rglob("*.py")):
        digest.update(
            str(file.relative_to(root)).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest()
        )
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
