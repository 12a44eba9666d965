"""Names that users give, as keys of MLflow: a key of its own for each, and the name itself where MLflow takes it."""

from __future__ import annotations

import hashlib
import re

# MLflow takes 250 characters, of which our own words in front of a class take up to 50.
_LONGEST = 200
# What MLflow's keys may not hold; a slash would group them, a colon is refused by servers on Windows. And the
# underscore of what looks like one of our own escapes.
_ESCAPED = re.compile(r"[^\w. -]|_(?=x[0-9A-F]{2})")


def mlflow_key(name: str) -> str:
    """Part of a metric's or a parameter's name: `C#` → `C_x23_`, as spreadsheets write it in their files.

    Different names give different keys. A name of more than 200 characters is cut, and ends in its hash.
    """
    key = _ESCAPED.sub(lambda sign: f"_x{ord(sign[0]):02X}_", name)
    if len(key) <= _LONGEST:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"{key[: _LONGEST - len(digest) - 1]}_{digest}"
