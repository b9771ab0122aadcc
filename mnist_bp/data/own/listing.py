"""One digest for many files: over their names and their digests, in order of name."""

from __future__ import annotations

import hashlib
from typing import Final

from mnist_bp.errors import DataFormatError
from mnist_bp.results.common import FileDigest

HINT: Final = "check the path and its read permissions"
"""What to do if a file of the user's own cannot be read."""


class ListingDigest:
    """Collects the names and digests of files, which are added in order of name."""

    def __init__(self) -> None:
        self._digest, self._size = hashlib.sha256(), 0

    def add(self, name: bytes, sha256: str, size: int) -> None:
        """Add a file; its size is in bytes."""
        self._digest.update(name + b"\0" + sha256.encode() + b"\n")
        self._size += size

    def file(self, place: str) -> FileDigest:
        """Return the digest of all, and their size in bytes, as of one file."""
        return FileDigest(place, self._digest.hexdigest(), self._size)


def expect_unchanged(place: str, found: str, expected: str) -> None:
    """Refuse files that changed between two readings, by their digests.

    Raises:
        DataFormatError: They changed.
    """
    if found != expected:
        raise DataFormatError(f"{place} was changed while it was read: wait until it is complete, and run again")
