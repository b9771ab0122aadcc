"""What a store supports, found by trying it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mnist_bp.errors import MnistBpError, StoreError
from mnist_bp.storage.files import TEMPORARY_SUFFIX, sha256_of_bytes
from mnist_bp.storage.interface import Store, Versioned
from mnist_bp.storage.retries import RetryPolicy, retry


@dataclass(frozen=True)
class Capability:
    """One operation that was tried.

    Args:
        name: Name of the operation.
        ok: Whether the store supports it.
        detail: One line on what the store did.
    """

    name: str
    ok: bool
    detail: str


def probe(store: Store) -> list[Capability]:
    """Try every operation that the library relies on, on small files that are removed afterwards.

    Returns:
        The capabilities, in the order tried; only the first if nothing could be written.
    """
    key = f"{probe_name()}/probe{TEMPORARY_SUFFIX}"  # listings hide files whose names start with a dot
    content = secrets.token_bytes(1 << 10)
    sha256 = sha256_of_bytes(content)

    def put() -> str:
        store.put(key, content, sha256)
        return f"a file was written to {store.uri('')}"

    def get() -> str:
        store.get(key, sha256)
        return "the file was read, and its SHA-256 verified"

    def find() -> str:
        if [entry.key for entry in store.list_entries(key.rpartition("/")[0] + "/")] != [key]:
            raise StoreError("a file just written is missing in the listing")
        return "a file just written is in the listing"

    def delete() -> str:
        store.delete(key)
        if store.read(key) is not None:
            raise StoreError("a file just deleted still exists")
        return "a file just deleted is missing"

    found = [_try("authentication and write", put)]
    if found[0].ok:
        try:
            found += [_try("read back", get), _try("list after write", find), *probe_conditions(store)]
        except StoreError as exc:
            found.append(Capability("conditional writes", False, str(exc)))
        finally:
            found.append(_try("delete", delete))
    return found


def probe_conditions(store: Store, directory: str = "champion/") -> list[Capability]:
    """Try whether a write is refused if its condition does not hold: compare-and-swap depends on it.

    Args:
        store: Store whose `compare_and_swap` is tried.
        directory: Prefix of the file to try it on; by default that of the champions' pointers.

    Raises:
        StoreError: The store cannot be reached, so nothing is known.
    """
    key = f"{directory}{probe_name()}{TEMPORARY_SUFFIX}"
    contents = [secrets.token_bytes(16) for _ in range(4)]

    def create() -> str:
        if not _swap(store, key, contents[0], None):
            raise StoreError("a missing file could not be created")
        if _swap(store, key, contents[1], None):
            raise StoreError("If-None-Match is ignored: an existing file was replaced")
        return "only a missing file is created"

    def replace() -> str:
        version = _read(store, key).version
        if not _swap(store, key, contents[2], version):
            raise StoreError("the version just read could not be replaced")
        if _swap(store, key, contents[3], version) or _read(store, key).content != contents[2]:
            raise StoreError("If-Match is ignored: a newer version was replaced")
        return "only the version just read is replaced"

    try:
        return [_try("conditional create", create), _try("conditional replace", replace)]
    finally:
        with suppress(StoreError):  # `remove_leftovers` finds it
            store.delete(key)


def probe_name() -> str:
    """Return a unique name that listings hide."""
    return f".mnist-bp-probe-{secrets.token_hex(8)}"


def _try(name: str, action: Callable[[], str]) -> Capability:
    try:
        return Capability(name, True, action())
    except MnistBpError as exc:
        if exc.transient:
            raise
        return Capability(name, False, str(exc))


def _swap(store: Store, key: str, content: bytes, expected: str | None) -> bool:
    """Swap, and again if the reply was lost: no other process writes here, and every content is used once."""

    def attempt() -> bool:
        outcome = store.compare_and_swap(key, content, expected)
        if outcome != "unknown":
            return outcome == "won"
        found = store.read(key)
        if found is None or found.content != content:
            raise StoreError(f"cannot write {store.uri(key)}: the reply was lost", transient=True)
        return True

    return retry(attempt, RetryPolicy())


def _read(store: Store, key: str) -> Versioned:
    found = store.read(key)
    if found is None:
        raise StoreError(f"{store.uri(key)} was written and is missing")
    return found
