"""Files that are whole or absent: written under a temporary name, read against a digest."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from filelock import FileLock, Timeout

from mnist_bp.errors import ChecksumError, ConflictError, StoreError

CHUNK: Final = 1 << 18
"""Bytes per piece of a streamed file."""

TEMPORARY_SUFFIX: Final = ".tmp"
PARTIAL_SUFFIX: Final = ".partial"
"""Of a download that is to be continued."""

LOCK: Final = ".lock"
"""What `locked` locks, in the directory itself."""


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """Hash a file without holding it in memory.

    Args:
        path: The file.
        algorithm: As hashlib names it.

    Returns:
        The digest in lower-case hex.

    Raises:
        StoreError: The file is absent or unreadable.
    """
    with reading_from(path), path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def sha256_of_bytes(content: bytes) -> str:
    """Hash bytes; the same notation as `digest_of`."""
    return hashlib.sha256(content).hexdigest()


def read_verified(path: Path, sha256: str, remedy: str = "delete it and run again") -> bytes:
    """Read a whole file and prove that it is the one meant, before anyone parses it.

    Args:
        path: File that fits in memory.
        sha256: Digest recorded when it was written.
        remedy: What the user can do about a damaged file.

    Raises:
        ChecksumError: The bytes differ from the digest.
        StoreError: The file is absent or unreadable.
    """
    with reading_from(path):
        content = path.read_bytes()
    expect_digest(str(path), sha256_of_bytes(content), sha256, remedy)
    return content


def expect_digest(what: str, found: str, expected: str, remedy: str = "delete it and run again") -> None:
    """Refuse bytes whose SHA-256 is not the one that was recorded.

    Raises:
        ChecksumError: It is not.
    """
    if found != expected:
        raise ChecksumError(f"{what} is damaged: SHA-256 expected {expected}, found {found}; {remedy}")


@contextmanager
def reading_from(place: Path, remedy: str = "run the pipeline again to recreate it") -> Iterator[None]:
    """Turn the operating system's refusals to read into one clear line.

    Args:
        place: What is being read, for the message.
        remedy: What the user can do.

    Raises:
        StoreError: In place of any OSError raised inside.
    """
    try:
        yield
    except OSError as exc:
        raise StoreError(f"cannot read {place}: {exc.strerror or exc}; {remedy}") from exc


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Turn the operating system's refusals (disk full, read-only, gone) into one clear line.

    Args:
        place: What is being written, for the message.

    Raises:
        StoreError: In place of any OSError raised inside.
    """
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise StoreError(
            f"cannot write {place}: {reason}; free or choose another place "
            "(--data-dir, --artifacts); what was there before is untouched"
        ) from exc


@contextmanager
def atomic_write(path: Path, *, replace: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name whole, or not at all.

    The bytes go to a temporary file beside it, are fsynced, and get their name when the block ends well. When it does
    not, the temporary file is removed and an earlier file of that name stays as it was.

    Args:
        path: Final name; its directories are made.
        replace: Whether an earlier file of that name makes way.

    Raises:
        ConflictError: It does not, and there is one.
        StoreError: The disk is full, read-only or gone.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                yield file
        commit(temporary, path, replace=replace)
    except BaseException:
        with suppress(OSError):  # it may never have been made
            temporary.unlink()
        raise


def write_bytes(path: Path, content: bytes) -> str:
    """Write a file atomically.

    Returns:
        The SHA-256 digest of the content.

    Raises:
        StoreError: The disk is full, read-only or gone.
    """
    with atomic_write(path) as file:
        file.write(content)
    return sha256_of_bytes(content)


def commit(temporary: Path, path: Path, *, replace: bool = True) -> None:
    """Give a fully written file its final name, durably; see `atomic_write`.

    Raises:
        ConflictError: The name is taken, and is not to be replaced.
        StoreError: The rename failed.
    """
    with writing_to(path):
        _fsync(temporary)
        if replace:
            temporary.replace(path)
        else:
            _take_name(temporary, path)
        _fsync(path.parent)  # a rename is durable only once its directory is


def _take_name(temporary: Path, path: Path) -> None:
    """Rename, but not onto another file: a link is made only where there is none."""
    try:
        os.link(temporary, path)
    except FileExistsError as exc:
        raise ConflictError(f"cannot write {path}: there is a file of that name, and it is not to be replaced") from exc
    temporary.unlink()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(
    directory: Path, patience: float = -1, otherwise: Exception | None = None, *, nested: bool = True
) -> Iterator[None]:
    """Keep other processes that ask for the same directory waiting; a process that dies lets go.

    Args:
        directory: Made where it is missing.
        patience: Seconds to wait; -1 for as long as it takes.
        otherwise: What to raise then.
        nested: Whether, where there is a limit to the wait, it may be had again in a process that has it.

    Raises:
        StoreError: It cannot be written to.
    """
    with writing_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(directory / LOCK, is_singleton=nested and otherwise is not None)
            lock.acquire(timeout=patience)
        except Timeout as exc:
            assert otherwise is not None
            raise otherwise from exc
    try:
        yield
    finally:
        lock.release()


def is_locked(directory: Path) -> bool:
    """Tell whether a process holds a directory by `locked`, without waiting or leaving a trace."""
    path = directory / LOCK
    if not path.exists():
        return False
    lock = FileLock(path, is_singleton=True)
    if lock.is_locked:  # by this very process
        return True
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def leftovers(directory: Path, before: datetime) -> Iterator[Path]:
    """Find what writers that died have left below a directory: temporary files, downloads broken off.

    Args:
        directory: Where to look; one that is not there has none.
        before: What is younger may be a living writer's, and is passed over.
    """
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            with suppress(FileNotFoundError):  # its writer was alive
                if name.endswith((TEMPORARY_SUFFIX, PARTIAL_SUFFIX)) and path.stat().st_mtime < before.timestamp():
                    yield path


def check_writable(directory: Path) -> None:
    """Prove that files can be made in a directory, by making one.

    Raises:
        StoreError: They cannot.
    """
    with writing_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0")
