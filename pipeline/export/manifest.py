"""What an exported folder holds, where it comes from, and how to check it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.checkpoints import file_sha256
from pipeline.images import LabeledImages

SCHEMA = "synthgain-export"
SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"

# What the manifest says of the images' origin.
_PROVENANCE = ("budget", "replicate", "seed", "generator_sha256", "real_subset_sha256")


def write_manifest(
    images: LabeledImages, folder: Path, *, format_name: str, source: str, study: Mapping[str, Any]
) -> None:
    """Write `manifest.json` on the files that are in the folder, and `SHA256SUMS` on them and the manifest.

    `sha256sum -c SHA256SUMS` checks the folder. `pixel_sha256` is the hash of all images' uint8 pixels in
    the order of their ids: it is the same in every format, and whichever library compressed the files.

    Args:
        images: what was written.
        folder: where to.
        format_name: the format's name.
        source: the real data set.
        study: what the study says of these images (JSON values).
    """
    checksums = {path: file_sha256(folder / path) for path in _files(folder)}
    manifest = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "synthetic": True,
        "format": format_name,
        "source": source,
        "images": len(images),
        "image_size": list(images.images.shape[2:]),
        "class_names": list(images.class_names),
        "counts": dict(zip(images.class_names, images.counts().tolist(), strict=True)),
        "pixel_sha256": hashlib.sha256(images.images.tobytes()).hexdigest(),
        "provenance": {key: images.provenance.get(key) for key in _PROVENANCE},
        "study": dict(study),
        "files": {
            path: {"bytes": (folder / path).stat().st_size, "sha256": sha256}
            for path, sha256 in checksums.items()
        },
    }
    (folder / MANIFEST).write_text(_json(manifest), encoding="utf-8", newline="\n")
    checksums[MANIFEST] = file_sha256(folder / MANIFEST)
    lines = [f"{checksums[path]}  {path}\n" for path in sorted(checksums)]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def foreign_files(folder: Path) -> list[str]:
    """The files of a folder that no earlier export wrote there; all of them if none did."""
    present = _files(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            return present
        written = {*manifest["files"], MANIFEST, CHECKSUMS}
    except (OSError, ValueError, KeyError, TypeError):
        return present
    return [path for path in present if path not in written]


def _files(folder: Path) -> list[str]:
    """Every file below a folder, as sorted paths with `/`."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
