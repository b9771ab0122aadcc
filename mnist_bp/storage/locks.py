"""Locks on files, which the system releases when their process dies, and who holds one that is not released.

A process that was stopped (SIGSTOP, a debugger, a suspended job) keeps its locks, so no lock is waited for without end.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from filelock import BaseFileLock, FileLock, Timeout

NOTICE_S: Final = 5.0
"""Seconds of waiting for a lock after which a line reports who holds it."""

MAX_WAIT_S: Final = 1_800.0
"""Seconds of waiting for a lock after which it is an error; a download may take 600 for each of four files."""

_LOCKS: Final = Path("/proc/locks")

logger = logging.getLogger(__name__)


def new_lock(path: Path, *, reentrant: bool = False) -> BaseFileLock:
    """Return a lock on a file, not yet acquired.

    Args:
        path: The file; created when the lock is acquired.
        reentrant: Whether all locks on this path in one process are one, which may be acquired again.
    """
    return FileLock(path, is_singleton=reentrant, fallback_to_soft=False)


def acquire(lock: BaseFileLock, timeout: float) -> None:
    """Acquire a lock; after `NOTICE_S` seconds of waiting, log who holds it.

    Args:
        lock: Lock by `new_lock`.
        timeout: Seconds to wait.

    Raises:
        Timeout: Another process holds the lock.
        OSError: The file cannot be created, or its file system has no locks.
    """
    try:
        lock.acquire(timeout=min(timeout, NOTICE_S))
    except Timeout:
        if timeout <= NOTICE_S:
            raise
        path = Path(lock.lock_file)
        logger.warning(f"waiting     for {path.parent}, which {owner_of(path)} has locked")
        lock.acquire(timeout=timeout - NOTICE_S)


def owner_of(path: Path) -> str:
    """Describe the process that holds the lock on a file, as far as the system shows it."""
    try:
        inode = path.stat().st_ino
        for line in _LOCKS.read_text().splitlines():
            fields = line.split()  # 1: FLOCK ADVISORY WRITE 4711 fd:00:1234 0 EOF; a waiting process has an arrow
            if fields[1] == "FLOCK" and int(fields[5].rpartition(":")[2]) == inode and int(fields[4]) > 0:
                return _describe(int(fields[4]))
    except (OSError, ValueError, IndexError):
        pass  # no Linux, or no access
    return "another process"


def _describe(process: int) -> str:
    """Describe a process by its id, its command line, and whether it is stopped."""
    place = Path(f"/proc/{process}")
    try:
        command = place.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        stopped = place.joinpath("stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return f"process {process}"
    return f"process {process} ({command[:80]}){', which is stopped,' if stopped else ''}"
