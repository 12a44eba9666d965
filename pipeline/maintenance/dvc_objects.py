"""Every output that `dvc.lock` names, in DVC's cache and in the workspace, hashed again.

DVC trusts a cache object that is read-only, as it left it. If a disk damages it, DVC hands it out without a word, and
`dvc status` calls it up to date.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.maintenance.findings import Check, Finding, first_words
from pipeline.runtime.progress import Advance, progress
from pipeline.runtime.stage_inputs import read_yaml

_NAME = "DVC objects"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class _Object:
    """A file that a stage made, or a folder of them: DVC's name in the cache, and the place in the workspace."""

    md5: str
    path: str
    stage: str

    @property
    def is_folder(self) -> bool:
        """A folder lies in the cache as the list of its files."""
        return self.md5.endswith(".dir")


@dataclass(frozen=True)
class _Repository:
    """Where the copies of an object lie, and whether a stage runs there now."""

    root: Path
    cache: Path
    is_running: bool

    def in_cache(self, entry: _Object) -> Path:
        """DVC's layout: the first two digits are a folder."""
        return self.cache / entry.md5[:2] / entry.md5[2:]

    def in_workspace(self, entry: _Object) -> Path:
        """Where the stage wrote it."""
        return self.root / entry.path


def dvc_objects(root: Path, *, is_running: bool = False) -> Check:
    """Every output that `dvc.lock` names against its hash. What a running stage writes is not in the lock yet."""
    lock = root / "dvc.lock"
    if not lock.is_file():
        return Check(_NAME, "no dvc.lock: nothing was run here yet")
    try:
        repository = _Repository(root, _cache_folder(root), is_running)
    except Exception as error:  # DVC raises its own kinds, and what a broken installation raises
        problem = f"DVC cannot open it ({first_words(error)})"
        return Check(_NAME, "", [Finding(problem, str(root), "`dvc doctor` says more")])
    try:
        outputs = list(_outputs(lock))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        problem = f"not readable as DVC's lock file ({first_words(error)})"
        return Check(_NAME, "", [Finding(problem, str(lock), "`synthgain doctor --fix`")])
    files, findings = _files_of_outputs(outputs, repository)
    copies = _copies(files, repository)
    findings += _differing_copies(copies, repository)
    return Check(_NAME, _summary(outputs, copies, repository), findings)


def md5_of(path: Path, advance: Advance | None = None) -> str:
    """The MD5 of a file, read piece by piece; `advance` hears of every megabyte."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if advance:
                advance(len(chunk) / 1e6)
    return digest.hexdigest()


def _cache_folder(root: Path) -> Path:
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return Path(repo.cache.local.path)


def _outputs(lock: Path) -> Iterator[_Object]:
    for stage, entry in read_yaml(lock)["stages"].items():
        for output in entry.get("outs", []):
            yield _Object(str(output["md5"]), str(output["path"]), str(stage))


def _files_of_outputs(
    outputs: Sequence[_Object], repository: _Repository
) -> tuple[list[_Object], list[Finding]]:
    """The outputs with every folder replaced by its files, and the folders of which the files are not known."""
    files: list[_Object] = []
    findings: list[Finding] = []
    for output in outputs:
        if not output.is_folder:
            files.append(output)
            continue
        listing = repository.in_cache(output)
        entries = _files_in_listing(listing, output) if listing.is_file() else None
        if listing.is_file() and entries is None:
            findings.append(_damaged(listing, output, repository))
        if entries is None and not repository.is_running:
            entries = _files_in_workspace(repository.in_workspace(output), output)
            if entries is not None and _folder_md5(entries, output) != output.md5:
                findings.append(_changed(output, is_in_cache=False))
                entries = None
        files += entries or []
    return files, findings


def _files_in_listing(listing: Path, folder: _Object) -> list[_Object] | None:
    """The files of a folder that the cache keeps as a list; None if the list is not what its name says."""
    content = listing.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != folder.md5.removesuffix(".dir"):
        return None
    return [
        _Object(entry["md5"], f"{folder.path}/{entry['relpath']}", folder.stage)
        for entry in json.loads(content)
    ]


def _files_in_workspace(place: Path, folder: _Object) -> list[_Object] | None:
    """The files of a folder as they lie in the workspace; None if it is not there."""
    if not place.is_dir():
        return None
    return [
        _Object(md5_of(path), f"{folder.path}/{path.relative_to(place).as_posix()}", folder.stage)
        for path in sorted(place.rglob("*"))
        if path.is_file()
    ]


def _folder_md5(files: Sequence[_Object], folder: _Object) -> str:
    """DVC's hash of a folder: of the JSON list of its files, sorted by their paths."""
    entries = [{"md5": file.md5, "relpath": file.path.removeprefix(f"{folder.path}/")} for file in files]
    text = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _copies(files: Sequence[_Object], repository: _Repository) -> dict[Path, _Object]:
    """The copies of all files that are there; a cache object comes before the workspace file made from it."""
    copies: dict[Path, _Object] = {}
    for file in files:
        for path in (repository.in_cache(file), repository.in_workspace(file)):
            if path.is_file():
                copies.setdefault(path, file)
    return copies


def _differing_copies(copies: dict[Path, _Object], repository: _Repository) -> list[Finding]:
    findings: list[Finding] = []
    damaged: set[str] = set()
    total = sum(path.stat().st_size for path in copies)
    with progress("hashing what dvc.lock names", total / 1e6, "MB") as advance:
        for path, file in copies.items():
            if md5_of(path, advance) == file.md5:
                continue
            if path.is_relative_to(repository.cache):
                damaged.add(file.md5)
                findings.append(_damaged(path, file, repository))
            # The remedy of a damaged object covers the file that came out of it.
            elif file.md5 not in damaged and not repository.is_running:
                findings.append(_changed(file, is_in_cache=repository.in_cache(file).is_file()))
    return findings


def _summary(outputs: Sequence[_Object], copies: dict[Path, _Object], repository: _Repository) -> str:
    cached = sum(path.is_relative_to(repository.cache) for path in copies)
    seen = f"{cached} cache objects and {len(copies) - cached} files of {len(outputs)} outputs hashed"
    missing = sum(not repository.in_workspace(output).exists() for output in outputs)
    if missing:
        seen += f"; {missing} outputs are not here: `dvc pull` or `dvc repro` brings them"
    return seen


def _damaged(path: Path, entry: _Object, repository: _Repository) -> Finding:
    return Finding(
        f"damaged: its bytes are not those of its name (it is {entry.path} of {entry.stage})",
        str(path),
        f"`rm -f {path} {repository.in_workspace(entry)}`, then `dvc pull` if there is a remote, else `dvc repro`",
    )


def _changed(entry: _Object, *, is_in_cache: bool) -> Finding:
    restore = f"`dvc checkout --force {entry.path}` brings it back, " if is_in_cache else ""
    return Finding(
        f"not what {entry.stage} made (dvc.lock has another hash)",
        entry.path,
        f"{restore}`dvc repro` makes it again",
    )
