"""Work that is kept: a folder of results and the key of all that they depend on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.runtime.outputs import atomic_output

_KEY = "key.json"


def is_kept(folder: Path, key: Mapping[str, Any]) -> bool:
    """Whether the folder holds finished results of exactly this key (JSON values)."""
    try:
        found = json.loads((folder / _KEY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(found == json.loads(json.dumps(dict(key))))


def keep(folder: Path, key: Mapping[str, Any], make: Callable[[Path], None]) -> None:
    """Have `make` fill the folder, unless it holds results of this key; whole or not at all."""
    if is_kept(folder, key):
        return
    with atomic_output(folder) as temporary:
        temporary.mkdir()
        make(temporary)
        (temporary / _KEY).write_text(
            json.dumps(dict(key), indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
