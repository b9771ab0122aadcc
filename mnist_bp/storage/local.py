"""A directory as a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mnist_bp.errors import ConflictError, StoreError
from mnist_bp.storage.files import PARTIAL_SUFFIX, TEMPORARY_SUFFIX, atomic_write, check_writable
from mnist_bp.storage.interface import PAGE_SIZE, UNREAD_DIGEST, Entry, conflict
from mnist_bp.storage.os_errors import RESTORE, reading_from, writing_to
from mnist_bp.storage.reading import CHUNK, digest_of, open_regular, read_document, read_verified, verified_content

_HINT: Final = "check the address and its read permissions"


class LocalStore:
    """Files in a directory, each written to a temporary file that is flushed to disk and renamed.

    Args:
        directory: Directory of the store; created by the first write.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def uri(self, key: str) -> str:
        """Return the path of a key."""
        return str(self._directory / key)

    def url(self, key: str) -> None:
        """Return None: a page of a server cannot link to a file."""

    def check_writable(self) -> None:
        """Create a file, and list; see `Store`."""
        check_writable(self._directory)
        with reading_from(self._directory, _HINT), os.scandir(self._directory):
            pass

    def put(self, key: str, source: Path | bytes, sha256: str) -> None:
        """Write a file under a free name; see `Store`."""
        path = self._directory / key
        content = verified_content(source, sha256, str(path))
        if not path.exists() and self.create(key, content):
            return
        with reading_from(path, _HINT):
            same_size = path.stat().st_size == len(content)
        if (found := digest_of(path) if same_size else UNREAD_DIGEST) != sha256:
            raise conflict(self.uri(key), found, sha256)

    def get(self, key: str, sha256: str | None = None, size: int | None = None) -> bytes:
        """Read a file; see `Store`."""
        if sha256 is None:
            return read_document(self._directory / key, _HINT, unusable=RESTORE)
        return read_verified(self._directory / key, sha256, RESTORE, size=size)

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Read a file in chunks; see `Store`."""
        path = self._directory / key
        with reading_from(path, _HINT), open_regular(path, unusable=RESTORE) as file:
            file.seek(start)
            while chunk := file.read(CHUNK):
                yield chunk

    def list_entries(self, prefix: str = "", page_size: int = PAGE_SIZE) -> Iterator[Entry]:  # noqa: ARG002 - pages are for servers
        """Walk the directory; see `Store`."""
        found = [path for path in self._walk(prefix) if not path.name.startswith(".")]  # a lock, a temporary file
        for key, path in sorted((path.relative_to(self._directory).as_posix(), path) for path in found):
            with reading_from(path, _HINT), suppress(FileNotFoundError):  # deleted since
                stat = path.stat()
                yield Entry(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def delete(self, key: str) -> None:
        """Delete a file, and the directories that are empty then; see `Store`."""
        path = self._directory / key
        with writing_to(path):
            path.unlink(missing_ok=True)
            for parent in path.relative_to(self._directory).parents[:-1]:
                try:
                    (self._directory / parent).rmdir()
                except OSError:  # not empty, or missing
                    break

    def read(self, key: str) -> bytes | None:
        """Read a file; see `Store`."""
        path = self._directory / key
        try:
            return read_document(path, _HINT, unusable=RESTORE)
        except StoreError as exc:
            if isinstance(exc.__cause__, FileNotFoundError | NotADirectoryError):
                return None
            raise

    def create(self, key: str, content: bytes) -> bool:
        """Write a file unless the name is taken; see `Store`."""
        try:
            with atomic_write(self._directory / key, replace=False) as file:
                file.write(content)
        except ConflictError:
            return False
        return True

    def supports_conditional_writes(self) -> bool:
        """Return True: the file system creates a name once."""
        return True

    def remove_leftovers(self, before: datetime, *, dry_run: bool = False) -> list[str]:
        """Remove temporary files and partial downloads; see `Store`."""
        found = []
        for path in self._walk(""):
            with writing_to(path), suppress(FileNotFoundError):  # its writer was running
                if path.name.endswith((TEMPORARY_SUFFIX, PARTIAL_SUFFIX)) and path.stat().st_mtime < before.timestamp():
                    if not dry_run:
                        path.unlink()
                    found.append(str(path))
        return sorted(found)

    def _walk(self, prefix: str) -> Iterator[Path]:
        """List all files whose keys start with a prefix, including hidden ones."""
        start = self._directory / prefix.rpartition("/")[0]
        for directory, _, names in os.walk(start, onerror=self._refuse):
            for name in names:
                path = Path(directory, name)
                if path.relative_to(self._directory).as_posix().startswith(prefix):
                    yield path

    def _refuse(self, exc: OSError) -> None:
        """Ignore a missing directory, but not an unreadable one."""
        # a prefix may be the name of a file, but not the store itself
        ignored = FileNotFoundError if self._directory.is_file() else (FileNotFoundError, NotADirectoryError)
        if not isinstance(exc, ignored):
            with reading_from(Path(exc.filename), _HINT):
                raise exc
