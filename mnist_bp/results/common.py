"""What the results of several stages have in common: files, and progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[float, float | None, str], None]
"""Called while a stage runs, with the amount completed, the total (None if it is unknown) and a short note."""


@dataclass(frozen=True)
class FileDigest:
    """A file on this machine.

    Args:
        path: Its path.
        sha256: Digest of its bytes, 64 hex digits.
        size: In bytes.
    """

    path: str
    sha256: str
    size: int
