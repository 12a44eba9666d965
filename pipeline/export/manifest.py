"""What an exported folder holds, where it comes from, and how to check it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.checkpoints import file_sha256
from pipeline.class_folders import class_folders, class_folders_before
from pipeline.export.card import card
from pipeline.export.croissant import croissant
from pipeline.export.licences import real_source
from pipeline.export.plain_files import NoPlainFile, read_plain
from pipeline.export.samples import Samples

SCHEMA = "synthgain-export"
# Raised whenever the words of the card or the Croissant change, or the layout of a format: `verify` holds an export
# against the rules of its own version.
SCHEMA_VERSION = 3
MANIFEST, CHECKSUMS, CARD, CROISSANT = "manifest.json", "SHA256SUMS", "README.md", "croissant.json"
_MOST_BYTES_OF_CHECKSUMS = 128_000_000  # a million and a half of files

# The origin of the images, in the manifest.
_PROVENANCE = ("budget", "replicate", "seed", "z_dim", "generator_sha256", "real_subset_sha256")
# Latents not drawn at 1; more than one generator; a generator that is not our GAN, or was trained on a pool too.
_PROVENANCE_OF_SOME = ("latent_std", "generators_sha256", "generator", "pool_images", "pool_sha256")


@dataclass(frozen=True)
class Facts:
    """What an export says beside its samples.

    Attributes:
        source: the real data set that the generator learned from (`data.source`).
        shard_size: samples of a shard.
        study: what the study found of these images (JSON values).
        metrics: generative metrics with floors (JSON values).
    """

    source: str
    shard_size: int
    study: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None


def write_manifest(
    samples: Samples,
    folder: Path,
    *,
    format_name: str,
    facts: Facts,
    pixel_sha256: str,
    shards: int,
    known_hashes: Mapping[str, str],
    put_away: Mapping[str, int],
) -> None:
    """Write `manifest.json` on the files in the folder; from it the card and the Croissant; then `SHA256SUMS`.

    `pixel_sha256` is the hash of the samples' pixel hashes (32 bytes each) in their order: it is the same in
    every format, and whichever library compressed the files. Single PNG files are not in the manifest: the
    sample table names them, and `SHA256SUMS` has their hashes.

    Args:
        samples: what was written.
        folder: where to.
        format_name: the format's name.
        facts: what else it says.
        pixel_sha256: see above.
        shards: how many.
        known_hashes: SHA-256 by path of files that were hashed when they were written.
        put_away: bytes by path of those among them that lie in an object store by now.
    """
    # This function writes its own files anew; those that a killed run left are no data.
    own = {MANIFEST, CARD, CROISSANT, CHECKSUMS}
    data = sorted({path for path in _files(folder) if path not in own} | set(put_away))
    checksums = {path: known_hashes.get(path) or file_sha256(folder / path) for path in data}
    manifest = {
        **_facts_of_samples(samples, format_name),
        "format": format_name,
        "source": {"key": facts.source, **asdict(real_source(facts.source))},
        "pixel_sha256": pixel_sha256,
        "shards": shards,
        "shard_size": facts.shard_size,
        "study": facts.study,
        "metrics": facts.metrics,
        "files": {
            path: {"bytes": put_away.get(path) or (folder / path).stat().st_size, "sha256": sha256}
            for path, sha256 in checksums.items()
            if not path.endswith(".png")
        },
    }
    texts = {MANIFEST: to_json(manifest), CARD: card(manifest), CROISSANT: to_json(croissant(manifest))}
    for path, text in texts.items():
        (folder / path).write_text(text, encoding="utf-8", newline="\n")
        checksums[path] = file_sha256(folder / path)
    lines = [f"{checksums[path]}  {path}\n" for path in sorted(checksums)]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def _facts_of_samples(samples: Samples, format_name: str) -> dict[str, Any]:
    """The part of a manifest that is the same in every format, but for the folders of classes."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "synthetic": True,
        "made_with": {"name": "SynthGain", "version": _version()},
        "images": len(samples),
        "real_images": int(samples.real.sum()),
        "image_size": list(samples.synthetic_file.image_size),
        **(
            {"channels": 3} if samples.channels == 3 else {}
        ),  # without it they are grey, as in all earlier exports
        "class_names": list(samples.class_names),
        "counts": samples.counts(real=False),
        "real_counts": samples.counts(real=True),
        "provenance": {
            **{key: samples.provenance.get(key) for key in _PROVENANCE},
            **{key: samples.provenance[key] for key in _PROVENANCE_OF_SOME if key in samples.provenance},
        },
        "label_filter": samples.label_filter,
        **(_folders(samples.class_names) if format_name == "png" else {}),
    }


def schema_file(version: int) -> Path:
    """The JSON Schema of the manifests of a version."""
    return Path(__file__).with_name("schemas") / f"manifest-{version}.schema.json"


def _folders(class_names: Sequence[str]) -> dict[str, list[str]]:
    """The folder of each class, where it is another than in exports of earlier versions."""
    folders = class_folders(class_names)
    return {} if folders == class_folders_before(class_names) else {"class_folders": folders}


def foreign_files(folder: Path) -> list[str]:
    """The files of a folder that no earlier export wrote there; all of them if none did."""
    present = _files(folder)
    try:
        if json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["schema"] != SCHEMA:
            return present
        written = {CHECKSUMS, *read_checksums(folder)}
    except (OSError, ValueError, KeyError, TypeError, NoPlainFile):
        return present
    return [path for path in present if path not in written]


def read_checksums(folder: Path) -> dict[str, str]:
    """The lines of `SHA256SUMS`: hash by path.

    Raises:
        FileNotFoundError: if it is not there.
        NoPlainFile: if it is no plain file, or too large.
        ValueError: if a line is not what `sha256sum` writes, or a path stands there twice.
    """
    found: dict[str, str] = {}
    text = read_plain(folder, CHECKSUMS, most_bytes=_MOST_BYTES_OF_CHECKSUMS).decode()
    for line in io.StringIO(text, newline="\n"):
        sha256, gap, path = line[:64], line[64:66], line[66:].removesuffix("\n")
        if gap != "  " or not path or len(sha256.strip("0123456789abcdef")):
            raise ValueError(f"{CHECKSUMS}: not a line of sha256sum: {line[:80]!r}")
        if path in found:
            raise ValueError(f"{CHECKSUMS}: {path[:80]!r} stands there twice")
        found[path] = sha256
    return found


def to_json(values: Mapping[str, Any]) -> str:
    """JSON as the export's files have it: the same values give the same text."""
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _files(folder: Path) -> list[str]:
    """Every file below a folder, as sorted paths with `/`."""
    found = []
    # For a tree of 60 000 images, pathlib takes a second for what takes a tenth of one here.
    for parent, _, names in os.walk(folder):
        below = Path(parent).relative_to(folder).as_posix()
        found += names if below == "." else [f"{below}/{name}" for name in names]
    return sorted(found)


def _version() -> str:
    try:
        return version("synthgain")
    except PackageNotFoundError:  # a workspace has the code without the package
        return "unknown"
