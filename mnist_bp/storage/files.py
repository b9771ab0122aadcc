"""Files that are complete or absent: written under a temporary name, and verified against a digest when read.

Every file is opened by `open_regular`, so a named pipe or a device under its name cannot hang the process, and its size
is compared with the expected one before it is read into memory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import IO, Final

from filelock import BaseFileLock, Timeout

from mnist_bp.errors import ChecksumError, ConflictError, DataFormatError, StoreError
from mnist_bp.storage import locks

CHUNK: Final = 1 << 18
"""Bytes of one chunk of a streamed file."""

TEMPORARY_SUFFIX: Final = ".tmp"
PARTIAL_SUFFIX: Final = ".partial"
"""Suffix of an interrupted download, which can be continued."""

LOCK: Final = ".lock"
"""Name of the file that `locked` locks, in the directory itself."""

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

MAX_DOCUMENT_SIZE: Final = 64 << 20
"""Bytes of the largest document: a manifest with 100,000 checkpoints has 40 million."""

RECREATE: Final = "run the pipeline again to recreate it"
DELETE: Final = "delete it and run again"
"""What the user can do about a file that is missing, and about one that is damaged."""


_KINDS: Final = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
_NO_DIRECTORY_FSYNC: Final = frozenset(
    {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR}
)
"""Errors of file systems that have no such operation: exFAT, CIFS, NFS without lockd, some FUSE file systems."""


def open_regular(path: Path, flags: int = os.O_RDONLY) -> BufferedReader | BufferedRandom:
    """Open a regular file, also through a link, without ever waiting for another process.

    Args:
        path: Path of the file.
        flags: Flags of `os.open`: O_RDONLY, or O_RDWR with O_CREAT or without.

    Raises:
        DataFormatError: It is a named pipe, a device or a socket.
        OSError: It cannot be opened, or is a directory; see `reading_from` and `writing_to`.
    """
    with suppress(FileNotFoundError):
        _expect_regular(path, path.stat().st_mode)  # opening a device may have effects, and a socket cannot be opened
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    try:
        _expect_regular(path, os.fstat(handle).st_mode)
        return open(handle, "rb") if flags == os.O_RDONLY else open(handle, "r+b")  # noqa: PTH123 - a handle, for the caller
    except BaseException:
        os.close(handle)
        raise


def _expect_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
        raise DataFormatError(f"{path} is {kind}, expected a regular file; {DELETE}")


def size_of(file: IO[bytes]) -> int:
    """Return the size of an open file in bytes."""
    return os.fstat(file.fileno()).st_size


def digest_of(path: Path, algorithm: str = "sha256", *, limit: int | None = None) -> str:
    """Hash a file without holding it in memory.

    Args:
        path: Path of the file.
        algorithm: Name of the hash function in hashlib.
        limit: Size in bytes above which the file is refused unread.

    Returns:
        The digest in lower-case hex.

    Raises:
        DataFormatError: It is too large, or not a regular file.
        StoreError: The file is missing or unreadable.
    """
    with reading_from(path), open_regular(path) as file:
        if limit is not None and size_of(file) > limit:
            raise _too_large(path, size_of(file), limit, DELETE)
        return hashlib.file_digest(file, algorithm).hexdigest()


def sha256_of_bytes(content: bytes) -> str:
    """Hash bytes; the result has the form of `digest_of`."""
    return hashlib.sha256(content).hexdigest()


def read_document(path: Path, hint: str = RECREATE) -> bytes:
    """Read a whole file whose digest and size are not known before it is read.

    Args:
        path: Path of a file of at most `MAX_DOCUMENT_SIZE`.
        hint: What the user can do about a missing, unreadable or unusable file.

    Raises:
        DataFormatError: It is too large, or not a regular file.
        StoreError: The file is missing or unreadable.
    """
    with reading_from(path, hint), open_regular(path) as file:
        if size_of(file) > MAX_DOCUMENT_SIZE:
            raise _too_large(path, size_of(file), MAX_DOCUMENT_SIZE, hint)
        return file.read(MAX_DOCUMENT_SIZE)


def _too_large(path: Path, size: int, limit: int, hint: str) -> DataFormatError:
    return DataFormatError(f"{path} has {size:,} bytes, expected at most {limit:,}; {hint}")


def read_verified(path: Path, sha256: str, hint: str | None = None, *, size: int | None = None) -> bytes:
    """Read a whole file and compare its digest before anything is parsed.

    Args:
        path: Path of a file that fits in memory.
        sha256: Digest recorded when the file was written, in hex.
        hint: What follows if the file is damaged, missing or unreadable; by default, what the user can do.
        size: Size recorded when the file was written, in bytes; a file of another size is not read.

    Raises:
        ChecksumError: The bytes differ from the digest.
        DataFormatError: It is not a regular file.
        StoreError: The file is missing or unreadable.
    """
    with reading_from(path, hint or RECREATE), open_regular(path) as file:
        expect_size(str(path), size_of(file), size, hint or DELETE)
        content = file.read() if size is None else file.read(size)
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


def expect_size(what: str, found: int, expected: int | None, hint: str = DELETE) -> None:
    """Refuse bytes, before they are read, whose number is not the recorded one; None if it was not recorded.

    Raises:
        ChecksumError: The sizes differ.
    """
    if expected not in (None, found):
        raise ChecksumError(f"{what} is damaged: it has {found:,} bytes, expected {expected:,}; {hint}")


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


@contextmanager
def locked(
    directory: Path, *, timeout: float = locks.MAX_WAIT_S, busy: StoreError | None = None, reentrant: bool = False
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
        directory.mkdir(parents=True, exist_ok=True)
        lock = locks.new_lock(directory / LOCK, reentrant=reentrant)
        _acquire(lock, directory, timeout, busy)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, directory: Path, timeout: float, busy: StoreError | None) -> None:
    try:
        locks.acquire(lock, timeout)
    except Timeout as exc:
        owner = locks.owner_of(directory / LOCK)
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
    """Return whether a process holds the lock of a directory. Does not wait, and leaves no trace."""
    path = directory / LOCK
    if not path.exists():
        return False
    lock = locks.new_lock(path, reentrant=True)
    if lock.is_locked:  # by this process
        return True
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


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
