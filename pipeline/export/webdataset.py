"""WebDataset: tar files in which `<id>.png`, `<id>.cls` and `<id>.json` make a sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.export.table import Shard

_BLOCK = 512
# name (100), mode, uid, gid, size, mtime, checksum, type, link (100), magic, owner, group, device, prefix, padding
_HEADER = b"%b0000644\x000000000\x000000000\x00%011o\x0000000000000\x00%b0" + bytes(100) + b"ustar\x0000"
_HEADER_REST = bytes(_BLOCK - 265)


def write_shard(shard: Shard, folder: Path) -> None:
    """Write one tar: the image, the label as text, and the row of the sample table as JSON."""
    with (folder / shard.file_name(".tar")).open("wb", buffering=1 << 20) as file:
        size = 0
        for row, png in zip(shard.table.to_pylist(), shard.pngs, strict=True):
            for suffix, content in (
                ("png", png),
                ("cls", b"%d" % row["label"]),
                ("json", json.dumps(row, separators=(",", ":")).encode()),
            ):
                size += file.write(_member(f"{row['id']}.{suffix}", content))
        # Two empty blocks end a tar; whole records of 20 are what tar itself writes.
        file.write(bytes(2 * _BLOCK + -(size + 2 * _BLOCK) % (20 * _BLOCK)))


def _member(name: str, content: bytes) -> bytes:
    """A file in a ustar archive: owner 0, mode 644, time 0. The tarfile module takes ten times as long."""
    padded_name = name.encode().ljust(100, b"\0")
    blank = _HEADER % (padded_name, len(content), b" " * 8) + _HEADER_REST
    checksum = b"%06o\0 " % sum(blank)
    header = _HEADER % (padded_name, len(content), checksum) + _HEADER_REST
    return header + content + bytes(-len(content) % _BLOCK)
