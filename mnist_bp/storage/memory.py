"""The free memory of this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

CONTROL_GROUP: Final = Path("/sys/fs/cgroup")
CONTROL_GROUP_FILES: Final = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""Limit and use of memory in bytes, and the part of it that only caches files, as versions 2 and 1 have them."""


def available_memory() -> int:
    """Return the free memory in bytes: of the machine, or of the process's control group if that is less.

    Files that were read, such as a dataset that was just hashed, stay in memory until it is needed: they count as free.
    """
    import psutil  # 20 ms, and not installed on every machine that trains

    free: int = psutil.virtual_memory().available
    for limit_file, used_file, statistics, name in CONTROL_GROUP_FILES:
        with suppress(OSError):
            limit, used = ((CONTROL_GROUP / file).read_text().strip() for file in (limit_file, used_file))
            if limit != "max":  # version 1 has a limit of 2**63 instead, more than is free
                free = min(free, int(limit) - int(used) + _figure(CONTROL_GROUP / statistics, name))
    return free


def _figure(path: Path, name: str) -> int:
    """Return a figure from a file with a name and a number in each line; 0 if it has none."""
    with suppress(OSError):
        figures = dict(line.split() for line in path.read_text().splitlines())
        return int(figures.get(name, 0))
    return 0
