"""What a store is: puts that never overwrite, reads that prove, and one compare-and-swap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from mnist_bp.errors import ConflictError


@dataclass(frozen=True)
class Entry:
    """What a listing tells about a file.

    Args:
        key: Of the store.
        size: Its size.
        modified: When it was put, in UTC, by the clock of whoever keeps it.
    """

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Versioned:
    """A small file that changes, as it was at one moment.

    Args:
        content: All of it.
        version: What `compare_and_swap` expects. Means something to its store alone, and proves no bytes.
    """

    content: bytes
    version: str


SwapOutcome = Literal["won", "lost", "unknown"]
"""`unknown`: the reply was lost, and whether the swap was made before that, only reading will tell."""


class Store(Protocol):
    """The one interface of all places. A key is a relative path with forward slashes; no file's name starts with a dot.

    Files are put once and never overwritten; a pointer changes by `compare_and_swap` alone. Every method
    raises StoreError, `transient` where another attempt may help; those that S3 needs have been made by then.
    """

    def uri(self, key: str) -> str:
        """Name a key for a reader."""
        ...

    def check_writable(self) -> None:
        """Prove that files can be put, deleted and listed here, before work is spent on making them."""
        ...

    def put(self, key: str, source: Path | bytes, sha256: str) -> bool:
        """Store a file under a key where nothing is yet. A reader sees it whole or not at all.

        Args:
            key: Where to.
            source: A local file, or the bytes themselves.
            sha256: What the bytes are to have; others are not stored.

        Returns:
            Whether it was stored now; False if the very same bytes were there already.

        Raises:
            ConflictError: Other bytes are there; they stay.
            ChecksumError: The source is not what `sha256` says.
        """
        ...

    def get(self, key: str, sha256: str | None = None) -> bytes:
        """Read a whole file, and prove it where its digest is known.

        Raises:
            ChecksumError: The bytes differ from the digest.
        """
        ...

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Read a file piece by piece, from byte `start` on."""
        ...

    def list_entries(self, prefix: str = "") -> Iterator[Entry]:
        """List all files whose key starts with a prefix, in order of key; of a place that is not there, none."""
        ...

    def delete(self, key: str) -> None:
        """Remove a file; one that is not there is removed already."""
        ...

    def read(self, key: str) -> Versioned | None:
        """Read a file that may change, with what `compare_and_swap` needs; None if it is not there."""
        ...

    def compare_and_swap(self, key: str, content: bytes, expected: str | None) -> SwapOutcome:
        """Replace a file if it is still the one that was read: compare-and-swap, never tried twice.

        Args:
            key: Which.
            content: What to replace it with; to differ from everything that was ever there, or `unknown` cannot be
                resolved by reading.
            expected: The version that `read` told, None for a file that was not there.
        """
        ...

    def supports_conditional_writes(self) -> bool:
        """Check, by trying, whether `compare_and_swap` is reliable here; a store that ignores conditions is not."""
        ...

    def remove_leftovers(self, before: datetime, *, dry_run: bool = False) -> list[str]:
        """Remove what writers that died have left, and readers never see: temporary files, unfinished uploads.

        Args:
            before: What is younger may be a living writer's, and stays.
            dry_run: Only name them.

        Returns:
            The URI of each.
        """
        ...


def conflict(uri: str, found: str, sha256: str) -> ConflictError:
    """Say that a name is taken by other bytes.

    Args:
        uri: The name.
        found: SHA-256 of what is there.
        sha256: Of what was to be put there.
    """
    return ConflictError(
        f"{uri} is there with other content: SHA-256 {found}, to be put {sha256}; nothing is overwritten: "
        "publish under another --artifacts, or remove the run there with mnist-bp gc"
    )
