"""Checks every word of an export against its files, without torch, DVC or the network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.export.ids import parse_id
from pipeline.export.manifest import CARD, CHECKSUMS, CROISSANT, MANIFEST, read_checksums
from pipeline.export.manifest_rules import (
    NoManifest,
    check_contents_of_manifest,
    check_manifest,
    check_texts,
    parse_manifest,
)
from pipeline.export.plain_files import MOST_FILES, Listing, NoPlainFile, list_files, plain_file
from pipeline.export.readers import TOO_MUCH_MEMORY, Batch, Unreadable, picture_shape, read_samples
from pipeline.export.shards import FORMATS
from pipeline.runtime.memory import memory_ceiling
from pipeline.runtime.progress import progress

# Around an image: three headers of a tar, its row as JSON, its lines in SHA256SUMS.
_MOST_BESIDE_AN_IMAGE = 8192
_MOST_OF_A_FRAME = 10_000_000
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
        if folder.is_file():
            reason = "a file, and no export"
        raise SynthGainError(
            f"{folder}: {reason}; name what `synthgain export` wrote, or a format's folder in it"
        )
    return found


def verify(folder: Path) -> list[str]:
    """What is wrong with an export, a line each; nothing if all is well.

    Checked are: the manifest against the JSON Schema of its version; every path, for one that leads out of the folder;
    that only plain files lie there, and none too many or too large; the SHA-256 of every file; the card and the
    Croissant, which must be those of the manifest; of every sample its id, label, size and pixel hash; and the counts.

    Nothing is opened but plain files below the folder, and nothing is read before its size is known to be one that the
    manifest allows.
    """
    findings = _Findings()
    try:
        manifest = parse_manifest(folder)
    except NoManifest as error:
        return [str(error)]
    if not check_manifest(manifest, findings.add):
        return findings.all()
    check_contents_of_manifest(manifest, findings.add)
    try:
        present = list_files(folder)
    except NoPlainFile as error:
        return [*findings.all(), str(error)]
    if not present.complete:
        return [*findings.all(), f"more than {MOST_FILES:,} files; so many are not checked at once"]
    _check_files(folder, manifest, present, findings)
    if MANIFEST in findings.kinds:  # the rest would go by what cannot be
        return findings.all()
    check_texts(folder, manifest, findings.add)
    if (
        not {"path", "size"} & findings.kinds.keys()
    ):  # else what would be read might lie anywhere, or never end
        _check_samples(folder, manifest, findings)
    return findings.all()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export that keeps to its JSON Schema.

    Raises:
        SynthGainError: in one line, if it does not.
    """
    findings = _Findings()
    try:
        manifest = parse_manifest(folder)
    except NoManifest as error:
        raise SynthGainError(f"{folder}: {error}") from None
    if check_manifest(manifest, findings.add):
        check_contents_of_manifest(manifest, findings.add)
    if findings.lines:
        raise SynthGainError(f"{folder}: {findings.lines[0]}")
    return manifest


def _check_files(folder: Path, manifest: Mapping[str, Any], present: Listing, findings: _Findings) -> None:
    checksums, readable = {}, False
    try:
        checksums, readable = read_checksums(folder), True
    except FileNotFoundError:
        findings.add(CHECKSUMS, f"{CHECKSUMS}: missing")
    except NoPlainFile as error:
        findings.add(CHECKSUMS, f"{CHECKSUMS}: {error}")
    except (OSError, ValueError) as error:
        findings.add(CHECKSUMS, str(error))
    listed = {**checksums, **{path: facts["sha256"] for path, facts in manifest["files"].items()}}
    for path, facts in manifest["files"].items():
        if checksums.get(path, facts["sha256"]) != facts["sha256"]:
            findings.add(CHECKSUMS, f"{path}: {CHECKSUMS} and {MANIFEST} differ on its hash")
    if readable:
        for path in sorted({MANIFEST, CARD, CROISSANT, *manifest["files"]} - set(checksums)):
            findings.add(CHECKSUMS, f"{path}: not in {CHECKSUMS}")
    _check_hashes(folder, manifest, listed, present, findings)
    for name, kind in sorted(present.others.items()):
        if name not in listed:  # else it is named already
            findings.add("path", f"{name}: {kind}; an export has plain files only")
    if readable:
        for name in sorted(present.sizes.keys() - listed.keys() - {CHECKSUMS}):
            findings.add("foreign file", f"{name}: in the folder, but not in {CHECKSUMS}")


def _check_hashes(
    folder: Path,
    manifest: Mapping[str, Any],
    listed: Mapping[str, str],
    present: Listing,
    findings: _Findings,
) -> None:
    """Every listed file that is a plain one of its size is read once."""
    most = _most_bytes(manifest)
    with progress(f"hashing {manifest['format']}", len(listed), "files") as advance:
        for path, sha256 in sorted(listed.items()):
            advance(1)
            if path not in present.sizes:
                _name_what_is_not_there(folder, path, findings)
                continue
            size, facts = present.sizes[path], manifest["files"].get(path)
            if facts is not None and size != facts["bytes"]:
                findings.add("hash", f"{path}: {size} bytes, {facts['bytes']} were written")
            elif size > most:
                findings.add(
                    "size",
                    f"{path}: {size:,} bytes; {manifest['images']} images need up to {most:,}: not read",
                )
            elif (found := file_sha256(folder / path)) != sha256:
                findings.add("hash", f"{path}: changed (SHA-256 {found[:16]}…, {sha256[:16]}… was written)")


def _most_bytes(manifest: Mapping[str, Any]) -> int:
    """What a file of so many images has at most: pixels that do not shrink, and generously what stands beside them."""
    height, *row = picture_shape(manifest)
    beside = manifest["images"] * (height * (math.prod(row) + 8) + _MOST_BESIDE_AN_IMAGE)
    return int(beside + 200 * len(manifest["files"]) + 1000 * len(manifest["class_names"]) + _MOST_OF_A_FRAME)


def _name_what_is_not_there(folder: Path, path: str, findings: _Findings) -> None:
    try:
        plain_file(folder, path)
    except NoPlainFile as error:
        findings.add("path", f"{path!r}: {error}; it was not opened")
    except (OSError, ValueError):
        findings.add("missing file", f"{path}: missing")
    else:
        findings.add("path", f"{path!r}: a path with detours; it was not opened")


def _check_samples(folder: Path, manifest: Mapping[str, Any], findings: _Findings) -> None:
    classes = len(manifest["class_names"])
    counts = {True: np.zeros(classes, np.int64), False: np.zeros(classes, np.int64)}  # by `synthetic`
    seen: set[str] = set()
    pixels = hashlib.sha256()
    total = 0
    try:
        with (
            memory_ceiling(),
            progress(f"reading {manifest['format']}", manifest["images"], "images") as advance,
        ):
            for batch in read_samples(folder, manifest):
                total += len(batch.labels)
                if total > manifest["images"]:
                    raise Unreadable(f"more samples than the {manifest['images']} of the manifest")
                for row, label, found in _samples(batch):
                    pixels.update(bytes.fromhex(found))
                    _check_sample(row, label, found, classes, seen, findings)
                    if 0 <= label < classes:
                        counts[bool(row["synthetic"])][label] += 1
                advance(len(batch.labels))
    except (Unreadable, MemoryError) as error:
        findings.add("samples", str(error) if isinstance(error, Unreadable) else TOO_MUCH_MEMORY)
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
