"""Files that are complete or absent: written under a temporary name, and verified against a digest when read."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from filelock import FileLock, Timeout

from mnist_bp.errors import ChecksumError, ConflictError, StoreError

CHUNK: Final = 1 << 18
"""Bytes of one chunk of a streamed file."""

TEMPORARY_SUFFIX: Final = ".tmp"
PARTIAL_SUFFIX: Final = ".partial"
"""Suffix of an interrupted download, which can be continued."""

LOCK: Final = ".lock"
"""Name of the file that `locked` locks, in the directory itself."""

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

RECREATE: Final = "run the pipeline again to recreate it"
DELETE: Final = "delete it and run again"
"""What the user can do about a file that is missing, and about one that is damaged."""


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """Hash a file without holding it in memory.

    Args:
        path: Path of the file.
        algorithm: Name of the hash function in hashlib.

    Returns:
        The digest in lower-case hex.

    Raises:
        StoreError: The file is missing or unreadable.
    """
    with reading_from(path), path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def sha256_of_bytes(content: bytes) -> str:
    """Hash bytes; the result has the form of `digest_of`."""
    return hashlib.sha256(content).hexdigest()


def read_verified(path: Path, sha256: str, hint: str | None = None) -> bytes:
    """Read a whole file and compare its digest before anything is parsed.

    Args:
        path: Path of a file that fits in memory.
        sha256: Digest recorded when the file was written, in hex.
        hint: What follows if the file is damaged, missing or unreadable; by default, what the user can do.

    Raises:
        ChecksumError: The bytes differ from the digest.
        StoreError: The file is missing or unreadable.
    """
    with reading_from(path, hint or RECREATE):
        content = path.read_bytes()
    expect_digest(str(path), sha256_of_bytes(content), sha256, hint or DELETE)
    return content


def verified_content(source: Path | bytes, sha256: str, name: str) -> bytes:
    """Return the bytes of a file or of a buffer after comparing their digest; see `read_verified`.

    Args:
        source: Path of a file, or the bytes.
        sha256: Expected digest, in hex.
        name: Name of a buffer, for the message.
    """
    if isinstance(source, Path):
        return read_verified(source, sha256)
    expect_digest(name, sha256_of_bytes(source), sha256)
    return source


def expect_digest(what: str, found: str, expected: str, hint: str = DELETE) -> None:
    """Refuse bytes whose SHA-256 is not the recorded one.

    Raises:
        ChecksumError: The digests differ.
    """
    if found != expected:
        raise ChecksumError(f"{what} is damaged: SHA-256 expected {expected}, found {found}; {hint}")


@contextmanager
def reading_from(place: Path, hint: str = RECREATE) -> Iterator[None]:
    """Raise StoreError in place of any OSError of the block, which reads.

    Args:
        place: File or directory that is read, for the message.
        hint: What the user can do.
    """
    try:
        yield
    except OSError as exc:
        raise StoreError(f"cannot read {place}: {exc.strerror or exc}; {hint}") from exc


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Raise StoreError in place of any OSError of the block, which writes: disk full, read-only, removed.

    Args:
        place: File or directory that is written, for the message.
    """
    try:
        yield
    except OSError as exc:
        raise StoreError(f"cannot write {place}: {_write_problem(exc, place)}; earlier files are unchanged") from exc


def _write_problem(exc: OSError, place: Path) -> str:
    if isinstance(exc, FileExistsError | NotADirectoryError):
        in_the_way = [path for path in (place, *place.parents) if path.exists() and not path.is_dir()]
        if in_the_way:
            return f"{in_the_way[0]} is a file, expected a directory; choose another place (--data-dir, --artifacts)"
    remedy = "free space or choose" if exc.errno in _NO_SPACE else "choose"
    return f"{exc.strerror or exc}; {remedy} another place (--data-dir, --artifacts)"


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
        _fsync(temporary)
        if replace:
            temporary.replace(path)
        else:
            try:
                os.link(temporary, path)  # unlike a rename, it fails if the name is taken
            except FileExistsError as exc:
                raise ConflictError(f"cannot write {path}: a file of that name exists, and is not replaced") from exc
            temporary.unlink()
        _fsync(path.parent)  # a rename is durable only when its directory is


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(
    directory: Path, *, timeout: float = -1, busy: StoreError | None = None, reentrant: bool = False
) -> Iterator[None]:
    """Hold a lock on a directory; the lock of a process that dies is released.

    Args:
        directory: Directory to lock; created if it is missing.
        timeout: Seconds to wait for the lock; -1 for no limit.
        busy: Error to raise at the time-out; needed with a limit.
        reentrant: Whether a process that holds the lock may acquire it again.

    Raises:
        StoreError: The directory cannot be written to.
    """
    with writing_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(directory / LOCK, is_singleton=reentrant)
            lock.acquire(timeout=timeout)
        except Timeout as exc:
            assert busy is not None
            raise busy from exc
    try:
        yield
    finally:
        lock.release()


def is_locked(directory: Path) -> bool:
    """Return whether a process holds the lock of a directory. Does not wait, and leaves no trace."""
    path = directory / LOCK
    if not path.exists():
        return False
    lock = FileLock(path, is_singleton=True)
    if lock.is_locked:  # by this process
        return True
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def check_writable(directory: Path) -> None:
    """Check that files can be created in a directory, by creating one.

    Raises:
        StoreError: They cannot.
    """
    with writing_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0")
