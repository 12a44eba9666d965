"""PNG: one folder per class with one file per image, the tree that torchvision's ImageFolder reads."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from pipeline.class_folders import class_folders
from pipeline.export.table import Shard


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
