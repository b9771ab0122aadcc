"""The free memory of this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

CONTROL_GROUP: Final = Path("/sys/fs/cgroup")
CONTROL_GROUP_FILES: Final = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""Limit and use of memory in bytes, as versions 2 and 1 of control groups have them."""


def available_memory() -> int:
    """Return the free memory in bytes: of the machine, or of the process's control group if that is less."""
    import psutil  # 20 ms, and not installed on every machine that trains

    free: int = psutil.virtual_memory().available
    for limit_file, used_file in CONTROL_GROUP_FILES:
        with suppress(OSError):
            limit, used = ((CONTROL_GROUP / name).read_text().strip() for name in (limit_file, used_file))
            if limit != "max":  # version 1 has a limit of 2**63 instead, more than is free
                free = min(free, int(limit) - int(used))
    return free
