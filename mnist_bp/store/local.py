"""A directory as a store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mnist_bp.files import CHUNK, atomic_write, check_writable, reading_from

_REMEDY: Final = "check the address"


class LocalStore:
    """Files in a directory, each written to a temporary name, fsynced and renamed.

    Args:
        directory: Made when first written to.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def uri(self, key: str) -> str:
        """Return the path of a key."""
        return str(self._directory / key)

    def check_writable(self) -> None:
        """Prove that files can be made here, by making one; see `Store`."""
        check_writable(self._directory)

    def put(self, key: str, path: Path) -> None:
        """Copy a file; see `Store`."""
        with reading_from(path), path.open("rb") as source, atomic_write(self._directory / key) as target:
            shutil.copyfileobj(source, target)

    def get(self, key: str) -> bytes:
        """Read a file; see `Store`."""
        with reading_from(self._directory / key, _REMEDY):
            return (self._directory / key).read_bytes()

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Read a file piece by piece; see `Store`."""
        path = self._directory / key
        with reading_from(path, _REMEDY), path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(CHUNK):
                yield chunk
