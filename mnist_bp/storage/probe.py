"""What a store can do, found out by trying it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mnist_bp.errors import MnistBpError, StoreError
from mnist_bp.storage.files import TEMPORARY_SUFFIX, sha256_of_bytes
from mnist_bp.storage.interface import Store, SwapOutcome, Versioned
from mnist_bp.storage.retries import RetryPolicy, retry


@dataclass(frozen=True)
class Capability:
    """One thing that was tried.

    Args:
        name: What.
        ok: Whether the store does it.
        detail: What it did.
    """

    name: str
    ok: bool
    detail: str


def probe(store: Store) -> list[Capability]:
    """Try everything that the library relies on, on small files of its own, and remove them.

    Returns:
        What was found, in the order tried; only the first where nothing could be written.
    """
    key = f"{probe_name()}/probe{TEMPORARY_SUFFIX}"  # listings hide files whose names start with a dot
    content = secrets.token_bytes(1 << 10)
    sha256 = sha256_of_bytes(content)

    def put() -> str:
        store.put(key, content, sha256)
        return f"{store.uri('')} takes files"

    def get() -> str:
        store.get(key, sha256)
        return "what was written is read back, proved by its SHA-256"

    def find() -> str:
        if [entry.key for entry in store.list_entries(key.rpartition("/")[0] + "/")] != [key]:
            raise StoreError("a file just written is missing in the listing")
        return "a file just written is in the listing"

    def delete() -> str:
        store.delete(key)
        if store.read(key) is not None:
            raise StoreError("a file just deleted is still there")
        return "a file just deleted is gone"

    findings = [_tried("authentication and write", put)]
    if findings[0].ok:
        try:
            findings += [_tried("read back", get), _tried("list after write", find), *probe_conditions(store)]
        except StoreError as exc:
            findings.append(Capability("conditional writes", False, str(exc)))
        finally:
            findings.append(_tried("delete", delete))
    return findings


def probe_conditions(store: Store, directory: str = "champion/") -> list[Capability]:
    """Try whether a write is refused when its condition does not hold: what compare-and-swap rests upon.

    Args:
        store: Its `compare_and_swap` is tried.
        directory: Where; by default beside the pointers that it is for.

    Raises:
        StoreError: The store cannot be reached, so that nothing is known.
    """
    key = f"{directory}{probe_name()}{TEMPORARY_SUFFIX}"
    contents = [secrets.token_bytes(16) for _ in range(4)]

    def create() -> str:
        if _swap(store, key, contents[0], None) != "won":
            raise StoreError("a file that was not there could not be created")
        if _swap(store, key, contents[1], None) != "lost":
            raise StoreError("If-None-Match is ignored: a file that was there was replaced")
        return "only what is not there is created"

    def replace() -> str:
        version = _there(store, key).version
        if _swap(store, key, contents[2], version) != "won":
            raise StoreError("the version that was read could not be replaced")
        if _swap(store, key, contents[3], version) != "lost" or _there(store, key).content != contents[2]:
            raise StoreError("If-Match is ignored: a newer version was replaced")
        return "only the version that was read is replaced"

    try:
        return [_tried("conditional create", create), _tried("conditional replace", replace)]
    finally:
        with suppress(StoreError):  # `remove_leftovers` finds it
            store.delete(key)


def probe_name() -> str:
    """Make a name that no other prober uses and no reader sees."""
    return f".mnist-bp-probe-{secrets.token_hex(8)}"


def _tried(name: str, action: Callable[[], str]) -> Capability:
    try:
        return Capability(name, True, action())
    except MnistBpError as exc:
        if exc.transient:
            raise
        return Capability(name, False, str(exc))


def _swap(store: Store, key: str, content: bytes, expected: str | None) -> SwapOutcome:
    """Swap, and again where the reply was lost: nobody else writes here, and no content comes twice."""

    def attempt() -> SwapOutcome:
        outcome = store.compare_and_swap(key, content, expected)
        if outcome != "unknown":
            return outcome
        found = store.read(key)
        if found is not None and found.content == content:
            return "won"
        raise StoreError(f"cannot write {store.uri(key)}: the reply was lost", transient=True)

    return retry(attempt, RetryPolicy())


def _there(store: Store, key: str) -> Versioned:
    found = store.read(key)
    if found is None:
        raise StoreError(f"{store.uri(key)} was written and is not there")
    return found
