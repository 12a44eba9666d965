"""PNG: one folder per class with one file per image, the tree that torchvision's ImageFolder reads."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.export.table import Shard

# Windows gives these names to devices, with or without a suffix.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# File systems allow 255 bytes; a character takes up to four.
_LONGEST_NAME = 60
# What Hugging Face's `load_dataset` takes for a split, at the beginning of a name or after one of these signs, and
# then reads alone: its docs, "Structure your repository", and SPLIT_KEYWORDS of its data_files.py.
_SPLIT = re.compile(
    r"(^|[-._ 0-9])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)([-._ 0-9]|$)",
    re.IGNORECASE,
)
# The export's own files, in the same folder. manifest.py and parquet.py name them, and import this room's formats.
_OWN_FILES = {"readme.md", "manifest.json", "croissant.json", "sha256sums", "samples.parquet"}


def write_shard(shard: Shard, folder: Path) -> dict[str, str]:
    """Write `<class folder>/<id>.png`, 8-bit grey or RGB; the SHA-256 of each file."""
    folders = class_folders(shard.class_names)
    for name in folders:
        (folder / name).mkdir(exist_ok=True)
    written = {}
    root = str(folder)
    # Class by class: ext4 takes three times as long to make files in turn in several folders. Each shard begins
    # with another class: two workers that make files in the same folder wait for each other.
    turn = (np.array(shard.labels) - shard.number) % len(folders)
    for position in np.argsort(turn, kind="stable").tolist():
        png = shard.pngs[position]
        path = f"{folders[shard.labels[position]]}/{shard.ids[position]}.png"
        _write(f"{root}/{path}", png)
        written[path] = hashlib.sha256(png).hexdigest()
    return written


def _write(path: str, content: bytes) -> None:
    # Python's file objects would double the time of a file this small.
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        while content:
            content = content[os.write(file, content) :]
    finally:
        os.close(file)


def class_folders(class_names: Sequence[str]) -> list[str]:
    """A folder name per class, in label order: the class name itself wherever every file system and reader takes it.

    As `class_folders_before`, but a name that Hugging Face skips (one that begins with `_`) or takes for a split
    (`train`, `my-test 2`), or that a file of the export has, becomes `class_<label>`.
    """
    folders = class_folders_before(class_names)
    taken = {name.casefold() for name in folders}
    for label, name in enumerate(folders):
        if name.startswith("_") or _SPLIT.search(name) or name.casefold() in _OWN_FILES:
            other = f"class_{label}"
            while other.casefold() in taken:
                other += f"_{label}"
            taken.add(other.casefold())
            folders[label] = other
    return folders


def class_folders_before(class_names: Sequence[str]) -> list[str]:
    """The folders of exports whose manifest names none: those of earlier versions, which readers must find still.

    Letters of any script, digits, `_`, `-`, `.` and spaces stay; anything else becomes `_`. A name that
    would hide the folder, that a system reserves, that is empty, or that differs from another in case alone
    gets its label added.
    """
    cleaned = []
    for name in class_names:
        text = re.sub(r"[^\w\-. ]", "_", unicodedata.normalize("NFC", name))
        cleaned.append(text[:_LONGEST_NAME].strip(". "))
    folders: list[str] = []
    for label, text in enumerate(cleaned):
        alike = [other for other in cleaned if other.casefold() == text.casefold()]
        if not text or _DEVICE.fullmatch(text) or len(alike) > 1:
            text = f"{text}_{label}" if text else f"class_{label}"
        while text.casefold() in {
            other.casefold() for other in (*folders, *cleaned[:label], *cleaned[label + 1 :])
        }:
            text += f"_{label}"
        folders.append(text)
    return folders
