"""What `store check` finds: stores that create a key twice, and listings that are wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from mnist_bp.errors import StoreError
from mnist_bp.storage.interface import PAGE_SIZE, Entry
from mnist_bp.storage.probe import probe, probe_create
from tests.support.memory_store import MemoryStore


def problems(store: MemoryStore) -> dict[str, str]:
    """Probe a store; return the details of what it does not support, by name."""
    return {each.name: each.detail for each in probe(store) if not each.ok}


class SlowStore(MemoryStore):
    """A store that looks at a key some time before it writes: right for one writer, wrong for several."""

    def create(self, key: str, content: bytes) -> bool:
        if key in self.files:
            return False
        time.sleep(0.01)
        self.files[key] = content, self.clock()
        return True


class UnsortedStore(MemoryStore):
    def list_entries(self, prefix: str = "", page_size: int = PAGE_SIZE) -> Iterator[Entry]:
        return iter(sorted(super().list_entries(prefix, page_size), key=lambda entry: entry.key.lower()[::-1]))


class ForgetfulStore(MemoryStore):
    """A store that repeats the last file of each page in the next one."""

    def list_entries(self, prefix: str = "", page_size: int = PAGE_SIZE) -> Iterator[Entry]:
        for number, entry in enumerate(super().list_entries(prefix, page_size), 1):
            yield entry
            if number % page_size == 0:
                yield entry


def test_a_store_that_supports_everything_has_no_problems() -> None:
    store = MemoryStore()
    assert problems(store) == {}
    assert store.files == {}


@pytest.mark.parametrize(
    ("store", "problem"),
    [
        (MemoryStore(conditional=False), "If-None-Match is ignored: an existing file was replaced"),
        (SlowStore(), "If-None-Match is not atomic: in round 1, "),
    ],
    ids=["ignored", "not atomic"],
)
def test_a_store_that_creates_a_file_twice_is_found(store: MemoryStore, problem: str) -> None:
    found = problems(store)
    assert list(found) == ["conditional create"]
    assert found["conditional create"].startswith(problem)
    assert store.files == {}


@pytest.mark.parametrize("store", [UnsortedStore(), ForgetfulStore()], ids=["order", "pages"])
def test_a_listing_out_of_order_or_with_a_file_twice_is_found(store: MemoryStore) -> None:
    found = problems(store)
    assert list(found) == ["list in order and pages"]
    assert "files listed out of order, twice or not at all: a" in found["list in order and pages"]


class BusyStore(MemoryStore):
    def create(self, key: str, content: bytes) -> bool:
        raise StoreError("a conflict with another write (HTTP 409)", transient=True)


def test_a_store_that_is_busy_is_not_one_without_conditional_writes() -> None:
    with pytest.raises(StoreError, match="409"):
        probe_create(BusyStore())
