"""Files and bytes that are verified against a digest when they are read.

Every file is opened by `open_regular`, so a named pipe or a device under its name cannot hang the process, and its size
is compared with the expected one before it is read into memory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import IO, Final

from mnist_bp.errors import ChecksumError, DataFormatError
from mnist_bp.storage.os_errors import DELETE, RECREATE, reading_from

CHUNK: Final = 1 << 18
"""Bytes of one chunk of a streamed file."""

MAX_DOCUMENT_SIZE: Final = 64 << 20
"""Bytes of the largest document: a manifest with 100,000 checkpoints has 40 million."""

_KINDS: Final = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_regular(path: Path, flags: int = os.O_RDONLY, *, unusable: str = DELETE) -> BufferedReader | BufferedRandom:
    """Open a regular file, also through a link, without ever waiting for another process.

    Args:
        path: Path of the file.
        flags: Flags of `os.open`: O_RDONLY, or O_RDWR with O_CREAT or without.
        unusable: What the user can do about something else under its name.

    Raises:
        DataFormatError: It is a named pipe, a device or a socket.
        OSError: It cannot be opened, or is a directory; see `reading_from` and `writing_to`.
    """
    with suppress(FileNotFoundError):
        _expect_regular(
            path, path.stat().st_mode, unusable
        )  # opening a device may have effects, and a socket cannot be opened
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    try:
        _expect_regular(path, os.fstat(handle).st_mode, unusable)
        return open(handle, "rb") if flags == os.O_RDONLY else open(handle, "r+b")  # noqa: PTH123 - a handle, for the caller
    except BaseException:
        os.close(handle)
        raise


def _expect_regular(path: Path, mode: int, hint: str) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
        raise DataFormatError(f"{path} is {kind}, expected a regular file; {hint}")


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


def read_document(path: Path, hint: str = RECREATE, *, unusable: str | None = None) -> bytes:
    """Read a whole file whose digest and size are not known before it is read.

    Args:
        path: Path of a file of at most `MAX_DOCUMENT_SIZE`.
        hint: What the user can do about a missing or unreadable file.
        unusable: What the user can do about a file that is too large, and about something else under its name; by
            default `hint` and to delete it.

    Raises:
        DataFormatError: It is too large, or not a regular file.
        StoreError: The file is missing or unreadable.
    """
    with reading_from(path, hint), open_regular(path, unusable=unusable or DELETE) as file:
        if size_of(file) > MAX_DOCUMENT_SIZE:
            raise _too_large(path, size_of(file), MAX_DOCUMENT_SIZE, unusable or hint)
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
    with reading_from(path, hint or RECREATE), open_regular(path, unusable=hint or DELETE) as file:
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
