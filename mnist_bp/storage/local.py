"""A directory as a store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mnist_bp.errors import ConflictError
from mnist_bp.storage.files import (
    CHUNK,
    atomic_write,
    check_writable,
    digest_of,
    expect_digest,
    leftovers,
    locked,
    reading_from,
    sha256_of_bytes,
    write_bytes,
    writing_to,
)
from mnist_bp.storage.interface import Entry, SwapOutcome, Versioned, conflict

_REMEDY: Final = "check the address, and who may read it"


class LocalStore:
    """Files in a directory, each written to a temporary name, fsynced and given its own.

    Args:
        directory: Made when first written to.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def uri(self, key: str) -> str:
        """Return the path of a key."""
        return str(self._directory / key)

    def check_writable(self) -> None:
        """Prove that files can be made here, by making one, and listed; see `Store`."""
        check_writable(self._directory)
        with reading_from(self._directory, _REMEDY), os.scandir(self._directory):
            pass

    def put(self, key: str, source: Path | bytes, sha256: str) -> bool:
        """Copy a file, or write bytes, under a name that is free; see `Store`."""
        path = self._directory / key
        if not path.exists():
            with suppress(ConflictError):  # another was faster, perhaps with the same bytes
                with atomic_write(path, replace=False) as target:
                    found = hashlib.sha256()
                    for chunk in _chunks(source):
                        found.update(chunk)
                        target.write(chunk)
                    expect_digest(str(source if isinstance(source, Path) else path), found.hexdigest(), sha256)
                return True
        if (there := digest_of(path)) != sha256:
            raise conflict(self.uri(key), there, sha256)
        return False

    def get(self, key: str, sha256: str | None = None) -> bytes:
        """Read a file; see `Store`."""
        with reading_from(self._directory / key, _REMEDY):
            content = (self._directory / key).read_bytes()
        if sha256 is not None:
            expect_digest(self.uri(key), sha256_of_bytes(content), sha256, "restore it from a copy")
        return content

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Read a file piece by piece; see `Store`."""
        path = self._directory / key
        with reading_from(path, _REMEDY), path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(CHUNK):
                yield chunk

    def list_entries(self, prefix: str = "") -> Iterator[Entry]:
        """Walk the directory; see `Store`."""
        found = [path for path in self._walk(prefix) if not path.name.startswith(".")]  # a lock, a temporary file
        for key, path in sorted((path.relative_to(self._directory).as_posix(), path) for path in found):
            with reading_from(path, _REMEDY), suppress(FileNotFoundError):  # deleted since
                about = path.stat()
                yield Entry(key, about.st_size, datetime.fromtimestamp(about.st_mtime, UTC))

    def delete(self, key: str) -> None:
        """Remove a file, and the directories that it leaves empty; see `Store`."""
        path = self._directory / key
        with writing_to(path):
            path.unlink(missing_ok=True)
            for parent in path.relative_to(self._directory).parents[:-1]:
                try:
                    (self._directory / parent).rmdir()
                except OSError:  # not empty, or gone
                    break

    def read(self, key: str) -> Versioned | None:
        """Read a file; its version is its digest. See `Store`."""
        path = self._directory / key
        with reading_from(path, _REMEDY):
            if not path.exists():
                return None
            content = path.read_bytes()
        return Versioned(content, sha256_of_bytes(content))

    def compare_and_swap(self, key: str, content: bytes, expected: str | None) -> SwapOutcome:
        """Compare and write under a lock that a process which dies lets go; see `Store`."""
        path = self._directory / key
        with locked(path.parent):
            there = self.read(key)
            if (there.version if there else None) != expected:
                return "lost"
            write_bytes(path, content)
            return "won"

    def supports_conditional_writes(self) -> bool:
        """Always: `compare_and_swap` holds a lock."""
        return True

    def remove_leftovers(self, before: datetime, *, dry_run: bool = False) -> list[str]:
        """Remove temporary files; see `Store`."""
        found = []
        for path in leftovers(self._directory, before):
            with writing_to(path):
                if not dry_run:
                    path.unlink(missing_ok=True)
            found.append(str(path))
        return sorted(found)

    def _walk(self, prefix: str) -> Iterator[Path]:
        """Find all files, those that only writers see included, below the directory that a prefix lies in."""
        start = self._directory / prefix.rpartition("/")[0]
        for directory, _, names in os.walk(start, onerror=self._refuse):
            for name in names:
                path = Path(directory, name)
                if path.relative_to(self._directory).as_posix().startswith(prefix):
                    yield path

    def _refuse(self, exc: OSError) -> None:
        """Pass over what is not there, but not over what cannot be read."""
        # a prefix may happen to name a file, the whole store may not
        not_there = FileNotFoundError if self._directory.is_file() else (FileNotFoundError, NotADirectoryError)
        if not isinstance(exc, not_there):
            with reading_from(Path(exc.filename), _REMEDY):
                raise exc


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with reading_from(source), source.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
