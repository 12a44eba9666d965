"""A ceiling for the memory that reading somebody else's file may take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a process may hold that reads files from outside, and what it may take at least beyond what it holds already.
MOST_BYTES = 950_000_000
_LEAST_MORE = 300_000_000
_PAGES = Path("/proc/self/statm")


@contextmanager
def memory_ceiling() -> Iterator[None]:
    """While the block runs, what would bring this process above `MOST_BYTES` raises MemoryError instead.

    A compressed file may say that it is small and unpack to any size, deep inside a library that asks nobody. The
    system's limit on data (RLIMIT_DATA) holds for every allocation of the process; where there is none (outside of
    Linux), the block runs without.
    """
    if not _PAGES.exists():
        yield
        return
    import resource

    held = int(_PAGES.read_text().split()[5]) * os.sysconf("SC_PAGESIZE")
    before, hardest = resource.getrlimit(resource.RLIMIT_DATA)
    known = [limit for limit in (before, hardest) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([max(MOST_BYTES, held + _LEAST_MORE), *known]), hardest))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hardest))
