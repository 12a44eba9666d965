"""What is shared carries no path of the machine that made it: a folder's path tells names of people and projects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

_ABSOLUTE = re.compile(r"/|~|\\\\|file:|[a-z]:[\\/]", re.IGNORECASE)
_SHOWN = "a path of the machine that made it"


def without_machine_paths(values: Any) -> Any:
    """JSON values with other words in the place of each text that is an absolute path; keys stay as they are."""
    if isinstance(values, Mapping):
        return {key: without_machine_paths(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [without_machine_paths(value) for value in values]
    return _SHOWN if isinstance(values, str) and _ABSOLUTE.match(values) else values


def yaml_without_machine_paths(text: str) -> str:
    """A YAML text without them: as it is where it has none, else written anew, without its comments."""
    values = yaml.safe_load(text)
    shared = without_machine_paths(values)
    return text if shared == values else yaml.safe_dump(shared, sort_keys=False, allow_unicode=True)
