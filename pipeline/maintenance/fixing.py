"""What `synthgain doctor --fix` repairs by itself: what a kill left behind, and what the store holds in vain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.maintenance.dvc_state import put_away_half_written
from pipeline.maintenance.half_written import clear_half_written
from pipeline.maintenance.processes import running_commands
from pipeline.maintenance.stored_results import tidy_store


def fix(root: Path) -> Iterator[str]:
    """Repair what can be repaired in a moment and without a loss; a line for each thing that was done.

    While something runs in the folder only DVC's own files are looked at: the others may be in use.
    """
    yield from put_away_half_written(root)
    if not running_commands(root):
        yield from clear_half_written(root)
        yield from tidy_store(root)
