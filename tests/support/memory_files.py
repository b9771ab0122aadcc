"""Where tests put temporary files: in memory, if there is enough of it.

The product flushes most files to the disk when it writes them, and so do Prefect's databases. A flush takes 5 ms on a
disk of 2026 and 0.01 ms in memory; to remove a file takes 2.4 and 0.002 ms. No test switches the power off.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

import psutil

SHARED_MEMORY: Final = Path("/dev/shm")
FILES: Final = 4 * 2**30
"""Bytes that must be free for files; a whole session writes 2 GB, and removes most of it after each test."""
PROCESSES: Final = 4 * 2**30
"""Bytes that must remain for processes."""


def choose_directory(environment: MutableMapping[str, str], memory: Path = SHARED_MEMORY) -> None:
    """Set TMPDIR, for this process and those that it starts, to a directory in memory if tests can use it.

    A directory that the caller chose stays.
    """
    if "TMPDIR" not in environment and is_usable(memory):
        environment["TMPDIR"] = str(memory)
        tempfile.tempdir = None  # read from TMPDIR again at the next call


def is_usable(directory: Path) -> bool:
    """Return whether a directory in memory has space for files, among them programs that tests execute."""
    if not os.access(directory, os.W_OK | os.X_OK):
        return False
    system = os.statvfs(directory)
    return (
        system.f_bavail * system.f_frsize >= FILES
        and psutil.virtual_memory().available >= FILES + PROCESSES
        and not system.f_flag & os.ST_NOEXEC
    )
