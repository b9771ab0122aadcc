"""What every store offers: puts that never overwrite, and reads that are verified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from mnist_bp.errors import ConflictError

PAGE_SIZE: Final = 1_000
"""Files that one request lists: the most that S3 allows."""


@dataclass(frozen=True)
class Entry:
    """One file in a listing.

    Args:
        key: Key in the store.
        size: Bytes.
        modified: When the file was put, in UTC, by the clock of the store.
    """

    key: str
    size: int
    modified: datetime


class Store(Protocol):
    """The interface of all stores. A key is a relative path with forward slashes; file names do not start with a dot.

    Files are put once and never overwritten: no file ever changes. Every method raises StoreError, `transient` if
    another attempt may succeed; the retries that S3 needs have been made already.
    """

    def uri(self, key: str) -> str:
        """Return the address of a key, for messages and records."""
        ...

    def url(self, key: str) -> str | None:
        """Return the http address of a key, for links; a reader may need permission. None where the store has none."""
        ...

    def check_writable(self) -> None:
        """Check that files can be put, deleted and listed, before work is spent on producing them.

        Raises:
            StoreError: They cannot.
        """
        ...

    def put(self, key: str, source: Path | bytes, sha256: str) -> None:
        """Store a file under a free key. Readers see all of it or nothing. The same bytes may be put again.

        Of several processes that put different bytes under one key at the same time, exactly one succeeds, if
        `supports_conditional_writes`. So a log is a series of keys, and the first process to put a key adds the entry.
        If the reply to a put is lost, the key is read again to find out whether the bytes were stored.

        Args:
            key: Key to put the file under.
            source: Path of a local file, or the bytes.
            sha256: Digest of the bytes, in hex; other bytes are not stored.

        Raises:
            ConflictError: The key holds other bytes, which stay.
            ChecksumError: The digest of the source is not `sha256`.
        """
        ...

    def get(self, key: str, sha256: str | None = None, size: int | None = None) -> bytes:
        """Read a whole file, and verify it if its digest is known; a file of another size is not read.

        Args:
            key: Key of the file.
            sha256: Recorded digest; None for a document of at most `mnist_bp.storage.reading.MAX_DOCUMENT_SIZE`.
            size: Recorded size in bytes.

        Raises:
            ChecksumError: The bytes differ from the digest, or their number from the size.
            DataFormatError: The document is too large, or it is no regular file.
        """
        ...

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Read a file in chunks, from byte `start` on."""
        ...

    def list_entries(self, prefix: str = "", page_size: int = PAGE_SIZE) -> Iterator[Entry]:
        """List all files whose keys start with a prefix, in order of key. A missing directory or prefix is empty.

        Args:
            prefix: Start of the keys.
            page_size: Maximum number of files in one reply of a server.
        """
        ...

    def delete(self, key: str) -> None:
        """Delete a file; a missing file is not an error."""
        ...

    def read(self, key: str) -> bytes | None:
        """Read a whole file; None if it is missing."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Store bytes under a key on the condition that it is free, and return whether it was.

        `put` is this, and safe on stores that ignore the condition. If the reply of a first attempt was lost, the
        result may be False although the bytes were stored.
        """
        ...

    def supports_conditional_writes(self) -> bool:
        """Return whether `create` honours its condition, by trying it; some stores ignore it."""
        ...

    def remove_leftovers(self, before: datetime, *, dry_run: bool = False) -> list[str]:
        """Remove the temporary files of writers that died. Listings do not show them.

        Args:
            before: Leftovers modified since then may belong to a running writer, and stay.
            dry_run: Only list them.

        Returns:
            The URI of each, sorted.
        """
        ...


UNREAD_DIGEST: Final = "not that of the new file, as its size differs"
"""In place of the digest of a file that was not read."""


def conflict(uri: str, found: str, sha256: str) -> ConflictError:
    """Return the error for a key that holds other bytes.

    Args:
        uri: Address of the key.
        found: SHA-256 of the stored bytes, or `UNREAD_DIGEST`.
        sha256: SHA-256 of the bytes to put.
    """
    return ConflictError(
        f"{uri} exists with other content: its SHA-256 is {found}, that of the new file {sha256}; nothing is "
        "overwritten: publish under another --artifacts, or remove the run there with mnist-bp gc"
    )
