"""Locks on files, which the system releases when their process dies, and who holds one that is not released.

A process that was stopped (SIGSTOP, a debugger, a suspended job) keeps its locks, so no lock is waited for without end.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import BaseFileLock, FileLock, Timeout

from mnist_bp.errors import StoreError
from mnist_bp.storage.os_errors import reading_from, writing_to

LOCK: Final = ".lock"
"""Name of the file that `locked` locks, in the directory itself."""

NOTICE_S: Final = 5.0
"""Seconds of waiting for a lock after which a line reports who holds it."""

MAX_WAIT_S: Final = 1_800.0
"""Seconds of waiting for a lock after which it is an error; a download may take 600 for each of four files."""

_LOCKS: Final = Path("/proc/locks")

_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
"""Errors of file systems that have no locks: CIFS, NFS without lockd, some FUSE file systems."""

logger = logging.getLogger(__name__)


@contextmanager
def locked(
    directory: Path, *, timeout: float = MAX_WAIT_S, busy: StoreError | None = None, reentrant: bool = False
) -> Iterator[None]:
    """Hold a lock on a directory; the lock of a process that dies is released.

    Args:
        directory: Directory to lock; created if it is missing.
        timeout: Seconds to wait for the lock; after 5, a line is logged that says which process holds it.
        busy: Error to raise at the time-out; by default, one that says which process holds the lock.
        reentrant: Whether a process that holds the lock may acquire it again.

    Raises:
        StoreError: The directory cannot be written to, its file system has no locks, or the time is out.
    """
    with writing_to(directory):
        while True:
            directory.mkdir(parents=True, exist_ok=True)
            lock = new_lock(directory / LOCK, reentrant=reentrant)
            try:
                _acquire(lock, directory, timeout, busy)
                break
            except FileNotFoundError:
                if directory.exists():
                    raise
                # otherwise the process that held the lock has removed it
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, directory: Path, timeout: float, busy: StoreError | None) -> None:
    try:
        acquire(lock, timeout)
    except Timeout as exc:
        owner = owner_of(directory / LOCK)
        raise busy or StoreError(
            f"cannot lock {directory}: {owner} holds the lock for {timeout:g} s already; wait until it ends, continue "
            "it (kill -CONT) or end it, and run again"
        ) from exc
    except OSError as exc:
        if exc.errno not in _NO_LOCKS:
            raise
        raise StoreError(
            f"cannot lock {directory}: its file system has no file locks (flock: {exc.strerror}); choose a place on "
            "another file system (--data-dir, --artifacts)"
        ) from exc


def is_locked(directory: Path) -> bool:
    """Return whether a process, this one included, holds the lock of a directory. Does not wait, and writes nothing.

    Raises:
        StoreError: The lock exists and cannot be opened.
    """
    path = directory / LOCK
    with reading_from(path):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # refused while the lock is held
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
    return False


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
        stat = path.stat()
        place = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
        for line in _LOCKS.read_text().splitlines():
            fields = line.split()  # 1: FLOCK ADVISORY WRITE 4711 fd:00:1234 0 EOF; a waiting process has an arrow
            if fields[1] == "FLOCK" and fields[5] == place and int(fields[4]) > 0:
                return _describe(int(fields[4]))
    except (OSError, ValueError, IndexError):
        pass  # no Linux, or no access
    return "another process"


def _describe(process: int) -> str:
    """Describe a process by its id, the name of its program, and whether it is stopped."""
    place = Path(f"/proc/{process}")
    try:
        # not its arguments, which may be secret
        program = place.joinpath("comm").read_bytes().decode(errors="replace").strip()
        stopped = place.joinpath("stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return f"process {process}"
    return f"process {process} ({program}){', which is stopped,' if stopped else ''}"
