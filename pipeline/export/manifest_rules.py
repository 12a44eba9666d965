"""What a manifest must be, whichever version of SynthGain wrote it: sizes first, then its schema, then its sums."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.class_folders import class_folders
from pipeline.export.card import card
from pipeline.export.croissant import croissant
from pipeline.export.manifest import (
    CARD,
    CHECKSUMS,
    CROISSANT,
    MANIFEST,
    SCHEMA,
    SCHEMA_VERSION,
    schema_file,
    to_json,
)
from pipeline.export.plain_files import NoPlainFile, read_plain, strict_json
from pipeline.export.shards import data_files

# More would take a check of its lists longer than anybody waits, or more memory than a laptop has.
MOST_CLASSES = 10_000
MOST_LISTED = 200_000
_MOST_BYTES = 64_000_000
_MOST_BYTES_OF_TEXT = 64_000_000
_SHOWN = 10
# An export of a version before the first public one is none that anybody has.
_OLDEST_VERSION = 2

# (kind of finding, line)
Add = Callable[[str, str], None]


class NoManifest(Exception):
    """Why there is no manifest to go by."""


def parse_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, if it is one of ours and not of a newer version; not yet held against its schema.

    Raises:
        NoManifest: in one line, if it is missing, no plain file, too large, no JSON or of something else.
    """
    try:
        manifest = strict_json(read_plain(folder, MANIFEST, most_bytes=_MOST_BYTES))
    except FileNotFoundError:
        raise NoManifest(f"{MANIFEST}: missing") from None
    except (OSError, ValueError, RecursionError, NoPlainFile) as error:
        if _is_of_a_dvc_cache(folder / MANIFEST):
            raise NoManifest(
                f"its files are links into DVC's cache (cache.type symlink), and no link is followed: `dvc unprotect"
                f" {folder}` makes plain files of them; or check a copy: `cp -rL {folder} COPY`,"
                " `synthgain verify COPY`"
            ) from None
        raise NoManifest(f"{MANIFEST}: cannot be read ({str(error)[:200]})") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise NoManifest(f"{MANIFEST}: not of an export of SynthGain (schema {SCHEMA})")
    found = manifest.get("schema_version")
    if type(found) is not int or found < _OLDEST_VERSION:
        raise NoManifest(
            f"{MANIFEST}: schema_version: found {str(found)[:40]}; versions {_OLDEST_VERSION} to {SCHEMA_VERSION} are"
            " known"
        )
    if found > SCHEMA_VERSION:
        raise NoManifest(
            f"{MANIFEST}: schema_version {found} is newer than {SCHEMA_VERSION}, the newest that this SynthGain"
            " knows; install a newer one"
        )
    for name, most in (("class_names", MOST_CLASSES), ("files", MOST_LISTED)):
        listed = manifest.get(name)
        if isinstance(listed, list | dict) and len(listed) > most:
            raise NoManifest(
                f"{MANIFEST}: {name}: {len(listed):,} are listed; up to {most:,} are checked (the hashes of larger"
                f" exports: sha256sum -c {CHECKSUMS})"
            )
    return manifest


def _is_of_a_dvc_cache(path: Path) -> bool:
    """Whether a link leads to where DVC keeps contents: `files/md5/<2 digits>/<30 digits>`."""
    return path.is_symlink() and Path(os.readlink(path)).parts[-4:-2] == ("files", "md5")


def check_manifest(manifest: Mapping[str, Any], add: Add) -> bool:
    """Hold a parsed manifest against the schema of its version; whether its values can be gone by."""
    import jsonschema

    schema = json.loads(schema_file(manifest["schema_version"]).read_text(encoding="utf-8"))
    problems = jsonschema.Draft202012Validator(schema).iter_errors(manifest)
    sound = True
    for problem in itertools.islice(problems, _SHOWN):  # of a million wrong values the first say enough
        place = ".".join(str(part) for part in problem.absolute_path) or "as a whole"
        add(MANIFEST, f"{MANIFEST}: {place[:80]}: {problem.message[:200]}")
        sound = False
    return sound and _numbers_are_whole(manifest, add) and _lists_fit(manifest, add)


def check_contents_of_manifest(manifest: Mapping[str, Any], add: Add) -> None:
    """The files that its format needs and no other, and sums that add up."""
    # One file per shard, or fewer: a number beyond that would only cost time.
    files, shards = set(manifest["files"]), min(manifest["shards"], len(manifest["files"]) + 1)
    wanted = data_files(manifest["format"], shards)
    for path in sorted(wanted - files)[:_SHOWN]:
        add(MANIFEST, f"{MANIFEST}: files: {path} is not among them, and {manifest['format']} needs it")
    for path in sorted(files - wanted):
        add("path", f"{MANIFEST}: files: {path!r} is no file of {manifest['format']}")
    sums = sum(manifest["counts"]), sum(manifest["real_counts"])
    if (sum(sums), sums[1]) != (manifest["images"], manifest["real_images"]):
        add(MANIFEST, f"{MANIFEST}: counts add up to {sums[0]} synthetic and {sums[1]} real images")


def check_texts(folder: Path, manifest: Mapping[str, Any], add: Add) -> None:
    """The card and the Croissant, which must be those of the manifest.

    Of the present version they are compared to the byte with what is written today. What earlier versions wrote had
    other words: of them the facts are compared, and `SHA256SUMS` has their hashes.
    """
    of_today = manifest["schema_version"] == SCHEMA_VERSION
    wanted = {CARD: card(manifest), CROISSANT: to_json(croissant(manifest))} if of_today else {}
    for name in (CARD, CROISSANT):
        try:
            text = read_plain(folder, name, most_bytes=_MOST_BYTES_OF_TEXT).decode()
            same = text == wanted[name] if of_today else _FACTS[name](text, manifest)
            if not same:
                add(name, f"{name}: not the one of this manifest")
            elif name == CARD and "synthetic" not in _title(text).lower():
                add(CARD, f"{CARD}: its title does not say that the images are synthetic")
        except FileNotFoundError:
            pass  # named among the missing files
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
            NoPlainFile,
        ) as error:
            add(name, f"{name}: cannot be read ({str(error)[:200]})")


def _numbers_are_whole(manifest: Mapping[str, Any], add: Add) -> bool:
    """JSON Schema takes 1.0 for an integer; Python does not count with it."""
    numbers = {name: [manifest[name]] for name in ("images", "real_images", "shards", "shard_size")}
    numbers |= {name: manifest[name] for name in ("image_size", "counts", "real_counts")}
    numbers["files"] = [facts["bytes"] for facts in manifest["files"].values()]
    for name, values in numbers.items():
        wrong = [value for value in values if type(value) is not int or value >= 2**63]
        if wrong:
            add(MANIFEST, f"{MANIFEST}: {name}: found {str(wrong[0])[:40]}; a whole number is needed")
            return False
    return True


def _lists_fit(manifest: Mapping[str, Any], add: Add) -> bool:
    classes = len(manifest["class_names"])
    for name in ("counts", "real_counts"):
        if (found := len(manifest[name])) != classes:
            add(MANIFEST, f"{MANIFEST}: {name} has {found} numbers for {classes} classes")
            return False
    # They become paths, and there is one way to name them.
    if manifest.get("class_folders", folders := class_folders(manifest["class_names"])) != folders:
        add(MANIFEST, f"{MANIFEST}: class_folders are not those of its class_names")
        return False
    return True


def _title(card: str) -> str:
    """The first line that is no part of the YAML before it; cards of earlier versions have none."""
    text = card.partition("\n---\n")[2] if card.startswith("---\n") else card
    return text.lstrip("\n").partition("\n")[0]


def _facts_of_card(text: str, manifest: Mapping[str, Any]) -> bool:
    source = manifest["source"]
    said = (source["name"], source["licence"], manifest["pixel_sha256"][:16], str(manifest["images"]))
    return all(part in text for part in said)


def _facts_of_croissant(text: str, manifest: Mapping[str, Any]) -> bool:
    found, source = strict_json(text), manifest["source"]
    files = {
        each["contentUrl"]: (each["sha256"], each["contentSize"])
        for each in found["distribution"]
        if each["@type"] == "cr:FileObject"
    }
    listed = {path: (facts["sha256"], f"{facts['bytes']} B") for path, facts in manifest["files"].items()}
    return (
        files == listed
        and found["license"] == (source["licence_url"] or source["licence"])
        and found["version"] == f"{manifest['schema_version']}.0.0"
        and "synthetic" in found["keywords"]
        and source["name"] in found["description"]
        and manifest["pixel_sha256"][:16] in found["citeAs"]
    )


_FACTS: dict[str, Callable[[str, Mapping[str, Any]], bool]] = {
    CARD: _facts_of_card,
    CROISSANT: _facts_of_croissant,
}
