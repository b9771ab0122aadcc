"""Files that are complete or absent: written under a temporary name, flushed to disk and renamed."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from mnist_bp.errors import ConflictError, StoreError
from mnist_bp.storage.locks import locked
from mnist_bp.storage.os_errors import writing_to
from mnist_bp.storage.reading import sha256_of_bytes

TEMPORARY_SUFFIX: Final = ".tmp"
PARTIAL_SUFFIX: Final = ".partial"
"""Suffix of an interrupted download, which can be continued."""

_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_NO_DIRECTORY_FSYNC: Final = frozenset(
    {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR}
)
"""Errors of file systems that have no such operation: exFAT, CIFS, NFS without lockd, some FUSE file systems."""


@contextmanager
def temporary_file() -> Iterator[IO[bytes]]:
    """Open a file in the directory for temporary files that has a name, and is deleted at the end of the block.

    Raises:
        StoreError: The directory is missing, full or read-only.
    """
    try:
        with tempfile.NamedTemporaryFile() as file:
            yield file
    except OSError as exc:
        raise StoreError(
            f"cannot write a temporary file in {tempfile.tempdir or 'any directory'}: {exc.strerror or exc}; "
            "set TMPDIR to a directory that has free space"
        ) from exc


@contextmanager
def atomic_write(path: Path, *, replace: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name completely or not at all.

    The bytes go to a temporary file in the same directory, which is flushed to disk and renamed at the end of the
    block. If the block fails, the temporary file is removed and an earlier file of that name is unchanged.

    Args:
        path: Final name; missing directories are created.
        replace: Whether an earlier file of that name is replaced.

    Raises:
        ConflictError: The name is taken, and `replace` is False.
        StoreError: The disk is full, read-only or missing.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                yield file
        commit(temporary, path, replace=replace)
    except BaseException:
        with suppress(OSError):  # it may not exist yet
            temporary.unlink()
        raise


def write_bytes(path: Path, content: bytes) -> str:
    """Write a file atomically.

    Returns:
        The SHA-256 of the content, in hex.

    Raises:
        StoreError: The disk is full, read-only or missing.
    """
    with atomic_write(path) as file:
        file.write(content)
    return sha256_of_bytes(content)


def commit(temporary: Path, path: Path, *, replace: bool = True) -> None:
    """Rename a completely written file to its final name, durably; see `atomic_write`.

    Raises:
        ConflictError: The name is taken, and `replace` is False.
        StoreError: The rename failed.
    """
    with writing_to(path):
        _commit(temporary, path, replace=replace)


def _commit(temporary: Path, path: Path, *, replace: bool) -> None:
    _fsync(temporary)
    if replace:
        temporary.replace(path)
    else:
        _rename_to_free_name(temporary, path)
    _fsync_directory(path.parent)  # a rename is durable only when its directory is


def _rename_to_free_name(temporary: Path, path: Path) -> None:
    taken = ConflictError(f"cannot write {path}: a file of that name exists, and is not replaced")
    try:
        os.link(temporary, path)  # unlike a rename, it fails if the name is taken
    except FileExistsError as exc:
        raise taken from exc
    except OSError as exc:
        if exc.errno not in _NO_HARD_LINKS:
            raise
        with locked(path.parent):  # every other writer is without hard links, too
            if path.exists():
                raise taken from exc
            temporary.replace(path)
    else:
        temporary.unlink()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fsync_directory(directory: Path) -> None:
    """Flush a directory; where the file system has no such operation, renames are as durable as it makes them."""
    try:
        _fsync(directory)
    except OSError as exc:
        if exc.errno not in _NO_DIRECTORY_FSYNC:
            raise


def check_writable(directory: Path) -> None:
    """Check that a directory takes files under free names, by writing one and removing it.

    Raises:
        StoreError: It does not.
    """
    probe = directory / f".probe-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    temporary = probe.with_name(f"{probe.name}{TEMPORARY_SUFFIX}")
    with writing_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(b"\0")
            _commit(temporary, probe, replace=False)
        finally:
            for path in (temporary, probe):
                path.unlink(missing_ok=True)
