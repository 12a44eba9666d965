"""Checks every word of an export against its files, without torch, DVC or the network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.export.card import card
from pipeline.export.croissant import croissant
from pipeline.export.ids import parse_id
from pipeline.export.manifest import (
    CARD,
    CHECKSUMS,
    CROISSANT,
    MANIFEST,
    SCHEMA,
    SCHEMA_FILE,
    SCHEMA_VERSION,
    read_checksums,
    to_json,
)
from pipeline.export.png import class_folders
from pipeline.export.readers import Batch, Unreadable, read_samples
from pipeline.export.shards import FORMATS, data_files
from pipeline.runtime.progress import progress

_SHOWN_OF_A_KIND = 10


@dataclass
class _Findings:
    """What is wrong, a line each; of many of a kind the first ones."""

    lines: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, line: str) -> None:
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if self.kinds[kind] <= _SHOWN_OF_A_KIND:
            self.lines.append(line)

    def all(self) -> list[str]:
        more = {
            kind: count - _SHOWN_OF_A_KIND for kind, count in self.kinds.items() if count > _SHOWN_OF_A_KIND
        }
        return [*self.lines, *(f"{kind}: {count} more" for kind, count in more.items())]


def find_exports(folder: Path) -> list[Path]:
    """The exports of a folder: itself, or those in it that are named after a format.

    Raises:
        SynthGainError: if there is none.
    """
    if (folder / MANIFEST).exists():
        return [folder]
    found = [folder / name for name in FORMATS if (folder / name / MANIFEST).exists()]
    if not found:
        reason = "holds no export (no manifest.json)" if folder.is_dir() else "no such folder"
        raise SynthGainError(
            f"{folder}: {reason}; name what `synthgain export` wrote, or a format's folder in it"
        )
    return found


def verify(folder: Path) -> list[str]:
    """What is wrong with an export, a line each; nothing if all is well.

    Checked are: the manifest against its JSON Schema; every path, for one that leads out of the folder; the
    SHA-256 of every file, and that there is no other; the card and the Croissant, which must be those of the
    manifest; and of every sample its id, label, size and pixel hash; and the counts.
    """
    findings = _Findings()
    manifest = _manifest(folder, findings)
    if manifest is None:
        return findings.all()
    _check_files(folder, manifest, findings)
    if MANIFEST in findings.kinds:  # the rest would go by what cannot be
        return findings.all()
    for name, wanted in ((CARD, card(manifest)), (CROISSANT, to_json(croissant(manifest)))):
        _check_text(folder / name, wanted, findings)
    if CARD not in findings.kinds and "synthetic" not in card(manifest).splitlines()[0].lower():
        findings.add(CARD, f"{CARD}: its first line does not say that the images are synthetic")
    if "path" not in findings.kinds:  # else what would be read might lie anywhere
        _check_samples(folder, manifest, findings)
    return findings.all()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export that keeps to its JSON Schema.

    Raises:
        SynthGainError: in one line, if it does not.
    """
    findings = _Findings()
    manifest = _manifest(folder, findings)
    if manifest is None:
        raise SynthGainError(f"{folder}: {findings.lines[0]}")
    return manifest


def _manifest(folder: Path, findings: _Findings) -> dict[str, Any] | None:
    """The manifest, None if there is nothing to go by."""
    manifest = _parsed_manifest(folder, findings)
    if manifest is None or not _keeps_to_the_schema(manifest, findings):
        return None
    # One file per shard, or fewer: a number beyond that would only cost time.
    files, shards = set(manifest["files"]), min(manifest["shards"], len(manifest["files"]) + 1)
    wanted = data_files(manifest["format"], shards)
    for path in sorted(wanted - files)[:_SHOWN_OF_A_KIND]:
        findings.add(
            MANIFEST, f"{MANIFEST}: files: {path} is not among them, and {manifest['format']} needs it"
        )
    for path in sorted(files - wanted):
        findings.add("path", f"{MANIFEST}: files: {path!r} is no file of {manifest['format']}")
    sums = sum(manifest["counts"]), sum(manifest["real_counts"])
    if (sum(sums), sums[1]) != (manifest["images"], manifest["real_images"]):
        findings.add(MANIFEST, f"{MANIFEST}: counts add up to {sums[0]} synthetic and {sums[1]} real images")
    return manifest


def _parsed_manifest(folder: Path, findings: _Findings) -> dict[str, Any] | None:
    """The manifest if it is one of ours and not of a newer version."""
    try:
        if (folder / MANIFEST).is_symlink():
            raise ValueError("a link")
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        findings.add(MANIFEST, f"{MANIFEST}: missing")
        return None
    except (OSError, ValueError, RecursionError) as error:
        findings.add(MANIFEST, f"{MANIFEST}: cannot be read ({error})")
        return None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        findings.add(MANIFEST, f"{MANIFEST}: not of an export of SynthGain (schema {SCHEMA})")
        return None
    found = manifest.get("schema_version")
    if isinstance(found, int) and found > SCHEMA_VERSION:
        findings.add(
            MANIFEST,
            f"{MANIFEST}: schema_version {found} is newer than {SCHEMA_VERSION}, the newest that this SynthGain"
            " knows; install a newer one",
        )
        return None
    return manifest


def _keeps_to_the_schema(manifest: Mapping[str, Any], findings: _Findings) -> bool:
    import jsonschema

    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    problems = list(jsonschema.Draft202012Validator(schema).iter_errors(manifest))
    for problem in problems:
        place = ".".join(str(part) for part in problem.absolute_path) or "as a whole"
        findings.add(MANIFEST, f"{MANIFEST}: {place}: {problem.message[:200]}")
    if problems:
        return False
    classes = len(manifest["class_names"])
    for name in ("counts", "real_counts"):
        if (found := len(manifest[name])) != classes:
            findings.add(MANIFEST, f"{MANIFEST}: {name} has {found} numbers for {classes} classes")
            return False
    # They become paths, and there is one way to name them.
    if manifest.get("class_folders", folders := class_folders(manifest["class_names"])) != folders:
        findings.add(MANIFEST, f"{MANIFEST}: class_folders are not those of its class_names")
        return False
    return True


def _check_files(folder: Path, manifest: Mapping[str, Any], findings: _Findings) -> None:
    try:
        checksums = read_checksums(folder)
    except FileNotFoundError:
        findings.add(CHECKSUMS, f"{CHECKSUMS}: missing")
        checksums = {}
    except (OSError, ValueError) as error:
        findings.add(CHECKSUMS, str(error))
        checksums = {}
    listed = {**checksums, **{path: facts["sha256"] for path, facts in manifest["files"].items()}}
    safe = {}
    for path, sha256 in listed.items():
        if reason := _unsafe(folder, path):
            findings.add("path", f"{path!r}: {reason}; it was not opened")
        else:
            safe[path] = sha256
    for path, facts in manifest["files"].items():
        if checksums.get(path, facts["sha256"]) != facts["sha256"]:
            findings.add(CHECKSUMS, f"{path}: {CHECKSUMS} and {MANIFEST} differ on its hash")
    if checksums:
        for path in sorted({MANIFEST, CARD, CROISSANT, *manifest["files"]} - set(checksums)):
            findings.add(CHECKSUMS, f"{path}: not in {CHECKSUMS}")
    with progress(f"hashing {manifest['format']}", len(safe), "files") as advance:
        for path, sha256 in sorted(safe.items()):
            _check_hash(folder / path, path, sha256, manifest["files"].get(path), findings)
            advance(1)
    for present in sorted(folder.rglob("*")):
        name = present.relative_to(folder).as_posix()
        if present.is_symlink():
            findings.add("path", f"{name}: a link; an export has none")
        elif not present.is_dir() and name not in safe and name != CHECKSUMS:
            findings.add("foreign file", f"{name}: in the folder, but not in {CHECKSUMS}")


def _check_hash(
    path: Path, name: str, sha256: str, facts: Mapping[str, Any] | None, findings: _Findings
) -> None:
    if not path.is_file():
        findings.add("missing file", f"{name}: missing")
    elif facts is not None and path.stat().st_size != facts["bytes"]:
        findings.add("hash", f"{name}: {path.stat().st_size} bytes, {facts['bytes']} were written")
    elif (found := file_sha256(path)) != sha256:
        findings.add("hash", f"{name}: changed (SHA-256 {found[:16]}…, {sha256[:16]}… was written)")


def _unsafe(folder: Path, path: str) -> str | None:
    """Why a listed path must not be opened."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or "\\" in path or "\0" in path or ":" in path or not parts or ".." in parts:
        return "a path that leads out of the folder"
    step = folder
    for part in parts:
        step /= part
        if step.is_symlink():
            return "a link, or behind one"
    return None


def _check_text(path: Path, wanted: str, findings: _Findings) -> None:
    try:
        if path.is_symlink() or path.read_bytes() != wanted.encode():
            findings.add(path.name, f"{path.name}: not the one of this manifest")
    except FileNotFoundError:
        if not any(line.startswith(f"{path.name}: missing") for line in findings.lines):
            findings.add(path.name, f"{path.name}: missing")


def _check_samples(folder: Path, manifest: Mapping[str, Any], findings: _Findings) -> None:
    classes = len(manifest["class_names"])
    counts = {True: np.zeros(classes, np.int64), False: np.zeros(classes, np.int64)}  # by `synthetic`
    seen: set[str] = set()
    pixels = hashlib.sha256()
    total = 0
    try:
        with progress(f"reading {manifest['format']}", manifest["images"], "images") as advance:
            for batch in read_samples(folder, manifest):
                total += len(batch.labels)
                for row, label, found in _samples(batch):
                    pixels.update(bytes.fromhex(found))
                    _check_sample(row, label, found, classes, seen, findings)
                    if 0 <= label < classes:
                        counts[bool(row["synthetic"])][label] += 1
                advance(len(batch.labels))
    except Unreadable as error:
        findings.add("samples", str(error))
        return
    if total != manifest["images"]:
        findings.add("samples", f"{total} samples; the manifest says {manifest['images']}")
    for synthetic, name in ((True, "counts"), (False, "real_counts")):
        _check_counts(counts[synthetic].tolist(), manifest[name], manifest["class_names"], name, findings)
    if "samples" not in findings.kinds and pixels.hexdigest() != manifest["pixel_sha256"]:
        findings.add("samples", "the hash of all pixels is not the manifest's pixel_sha256")


def _samples(batch: Batch) -> Iterator[tuple[dict[str, Any], int, str]]:
    hashes = (hashlib.sha256(image.tobytes()).hexdigest() for image in batch.images)
    return zip(batch.rows.to_pylist(), batch.labels.tolist(), hashes, strict=True)


def _check_sample(
    row: Mapping[str, Any], label: int, found: str, classes: int, seen: set[str], findings: _Findings
) -> None:
    sample_id = row["id"]
    if sample_id in seen:
        findings.add("id", f"sample {sample_id}: its id stands there twice")
    seen.add(sample_id)
    if not 0 <= label < classes:
        findings.add("label", f"sample {sample_id}: label {label}; {classes} classes allow 0..{classes - 1}")
    elif label != row["label"]:
        findings.add("label", f"sample {sample_id}: label {label}, the sample table says {row['label']}")
    parts = parse_id(str(sample_id))
    if parts is None or (parts[0], parts[2]) != (row["label"], not row["synthetic"]):
        findings.add(
            "id", f"sample {sample_id!r}: no id of label {row['label']}, synthetic {row['synthetic']}"
        )
    if found != row["pixel_sha256"]:
        findings.add(
            "pixels", f"sample {sample_id}: its pixels are not those that were written (pixel_sha256)"
        )


def _check_counts(
    found: Sequence[int], wanted: Sequence[int], class_names: Sequence[str], name: str, findings: _Findings
) -> None:
    for class_name, count, expected in zip(class_names, found, wanted, strict=True):
        if count != expected:
            findings.add(
                "counts", f"class {class_name}: {count} images; the manifest's {name} says {expected}"
            )
