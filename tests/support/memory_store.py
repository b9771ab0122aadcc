"""A store in memory, with a clock of the test, and a pool that keeps the order of its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mnist_bp.errors import StoreError
from mnist_bp.storage.interface import PAGE_SIZE, Entry, conflict
from mnist_bp.storage.reading import sha256_of_bytes


class MemoryStore:
    """Files in a dictionary.

    Args:
        clock: Returns the time of a file that is put.
        conditional: Whether `create` honours its condition; otherwise it replaces.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC), *, conditional: bool = True) -> None:
        self.files: dict[str, tuple[bytes, datetime]] = {}
        self.clock = clock
        self._conditional = conditional

    def uri(self, key: str) -> str:
        return f"memory://{key}"

    def url(self, key: str) -> None:
        return None

    def check_writable(self) -> None:
        pass

    def put(self, key: str, source: Path | bytes, sha256: str) -> None:
        content = source if isinstance(source, bytes) else source.read_bytes()
        assert sha256_of_bytes(content) == sha256
        if key not in self.files:
            self.files[key] = content, self.clock()
        elif (found := sha256_of_bytes(self.files[key][0])) != sha256:
            raise conflict(key, found, sha256)

    def get(self, key: str, sha256: str | None = None, size: int | None = None) -> bytes:
        if key not in self.files:
            raise StoreError(f"no {key}")
        content, _ = self.files[key]
        assert sha256 in (None, sha256_of_bytes(content)), key
        return content

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        yield self.get(key)[start:]

    def list_entries(self, prefix: str = "", page_size: int = PAGE_SIZE) -> Iterator[Entry]:
        for key in sorted(self.files):
            if key.startswith(prefix):
                content, modified = self.files[key]
                yield Entry(key, len(content), modified)

    def delete(self, key: str) -> None:
        self.files.pop(key, None)

    def read(self, key: str) -> bytes | None:
        return self.files[key][0] if key in self.files else None

    def create(self, key: str, content: bytes) -> bool:
        if self._conditional and key in self.files:
            return False
        self.files[key] = content, self.clock()
        return True

    def supports_conditional_writes(self) -> bool:
        return self._conditional

    def remove_leftovers(self, before: datetime, *, dry_run: bool = False) -> list[str]:
        return []


class _SequentialPool:
    def __init__(self, _threads: int) -> None:
        self.map = map

    def __enter__(self) -> _SequentialPool:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the calls of `in_parallel` one after the other, in order, in the thread of the test."""
    monkeypatch.setattr("mnist_bp.storage.parallel.ThreadPoolExecutor", _SequentialPool)
