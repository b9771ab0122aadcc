"""A store in memory, on which something else can happen at every call: for what holds in any order of events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnist_bp.errors import StoreError
from mnist_bp.storage.files import sha256_of_bytes
from mnist_bp.storage.interface import Entry, SwapOutcome, Versioned, conflict


class MemoryStore:
    """Files in a dictionary, with the time that `clock` tells.

    Args:
        clock: What a file's time is when it is put.
        conditional: Whether `compare_and_swap` may be relied on; otherwise all win.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC), *, conditional: bool = True) -> None:
        self.files: dict[str, tuple[bytes, datetime]] = {}
        self._clock = clock
        self._conditional = conditional

    def uri(self, key: str) -> str:
        return f"memory://{key}"

    def check_writable(self) -> None:
        pass

    def put(self, key: str, source: Path | bytes, sha256: str) -> None:
        content = source if isinstance(source, bytes) else source.read_bytes()
        assert sha256_of_bytes(content) == sha256
        if key not in self.files:
            self.files[key] = content, self._clock()
        elif (found := sha256_of_bytes(self.files[key][0])) != sha256:
            raise conflict(key, found, sha256)

    def get(self, key: str, sha256: str | None = None) -> bytes:
        if key not in self.files:
            raise StoreError(f"no {key}")
        content, _ = self.files[key]
        assert sha256 in (None, sha256_of_bytes(content)), key
        return content

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        yield self.get(key)[start:]

    def list_entries(self, prefix: str = "") -> Iterator[Entry]:
        for key in sorted(self.files):
            if key.startswith(prefix):
                content, modified = self.files[key]
                yield Entry(key, len(content), modified)

    def delete(self, key: str) -> None:
        self.files.pop(key, None)

    def read(self, key: str) -> Versioned | None:
        if key not in self.files:
            return None
        content, _ = self.files[key]
        return Versioned(content, sha256_of_bytes(content))

    def compare_and_swap(self, key: str, content: bytes, expected: str | None) -> SwapOutcome:
        there = self.read(key)
        if self._conditional and (there.version if there else None) != expected:
            return "lost"
        self.files[key] = content, self._clock()
        return "won"

    def supports_conditional_writes(self) -> bool:
        return self._conditional

    def remove_leftovers(self, before: datetime, *, dry_run: bool = False) -> list[str]:
        return []


class Killed(BaseException):
    """The process is gone: like kill -9, nothing after it is done."""


class EventfulStore:
    """A store at whose calls other things happen, and after whose calls something is looked at.

    Args:
        store: What it really is.
        events: What happens just before the call of that number; calls made by events are not counted.
        look: Called after every call, of the store or of an event.
    """

    def __init__(
        self, store: MemoryStore, events: dict[int, Callable[[], object]], look: Callable[[], None] = lambda: None
    ) -> None:
        self._store, self._events, self._look = store, events, look
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name == "uri":
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            event = self._events.get(self.calls)
            self.calls += 1
            if event is not None:
                event()
                self._look()
            result = method(*args, **kwargs)
            if name == "list_entries":
                result = iter(list(result))  # as a listing is one moment's
            self._look()
            return result

        return call


class InThisThread:
    """Instead of a pool of threads, where calls are to come in one order, or a pool would take the time."""

    def __init__(self, _threads: int) -> None:
        self.map = map

    def __enter__(self) -> InThisThread:
        return self

    def __exit__(self, *_: object) -> None:
        pass
