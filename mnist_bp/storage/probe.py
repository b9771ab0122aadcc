"""What a store supports, found by trying it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from mnist_bp.errors import MnistBpError, StoreError
from mnist_bp.storage.files import TEMPORARY_SUFFIX
from mnist_bp.storage.interface import Store
from mnist_bp.storage.parallel import in_parallel
from mnist_bp.storage.reading import sha256_of_bytes

_WRITERS: Final = 8
_ROUNDS: Final = 3
_PAGE: Final = 4
"""Files that one request lists, in the probe of listings."""


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
            found += [_try("read back", get), _try("list after write", find)]
            found.append(probe_listing(store, f"{probe_name()}/"))
            found.append(probe_create(store))
        except StoreError as exc:
            found.append(Capability("connection", False, str(exc)))
        finally:
            found.append(_try("delete", delete))
    return found


def probe_create(store: Store, directory: str = "champion/") -> Capability:
    """Try whether exactly one of several writers creates a key, if all write at once; the champion's log relies on it.

    A store that ignores the condition, or checks it some time before it writes, lets several of them succeed.

    Args:
        store: Store whose `create` is tried.
        directory: Prefix of the files to try it on; by default that of the champions' logs.

    Raises:
        StoreError: The store cannot be reached, so nothing is known.
    """
    keys = [f"{directory}{probe_name()}{TEMPORARY_SUFFIX}" for _ in range(1 + _ROUNDS)]

    def check() -> str:
        # before the race: some stores that ignore conditions are in disorder for a while after many writes at once
        if store.create(keys[0], b"first") and store.create(keys[0], b"second"):
            raise StoreError("If-None-Match is ignored: an existing file was replaced")
        return _race(store, keys[1:])

    try:
        return _try("conditional create", check)
    finally:
        for key in keys:
            with suppress(StoreError):  # `remove_leftovers` finds it
                store.delete(key)


def _race(store: Store, keys: list[str]) -> str:
    for number, key in enumerate(keys, 1):
        contents = [secrets.token_bytes(16) for _ in range(_WRITERS)]
        created = list(in_parallel(partial(store.create, key), contents))
        winners = [content for content, won in zip(contents, created, strict=True) if won]
        found = store.read(key)
        if found not in contents:
            raise StoreError("a file just created cannot be read back")
        # no winner: the reply to the first attempt of the winner was lost
        if len(winners) > 1 or (winners and winners[0] != found):
            raise StoreError(
                f"If-None-Match is not atomic: in round {number}, {len(winners)} of {_WRITERS} writers created one file"
            )
    return f"one of {_WRITERS} writers at once creates a file, in each of {_ROUNDS} rounds"


def probe_listing(store: Store, directory: str) -> Capability:
    """Try whether a listing of several pages has every file once, in the order of the bytes of the keys.

    Raises:
        StoreError: The store cannot be reached, so nothing is known.
    """
    names = ("a-1", "a.1", "a/1", "a0", "a1", "aa", "b/1", "b/2", "b_")
    expected = [f"{directory}{name}{TEMPORARY_SUFFIX}" for name in names]

    def check() -> str:
        content = secrets.token_bytes(16)
        for _ in in_parallel(partial(store.put, source=content, sha256=sha256_of_bytes(content)), expected):
            pass
        found = [entry.key for entry in store.list_entries(directory, page_size=_PAGE)]
        if found != expected:
            shown = ", ".join(key.removeprefix(directory) for key in found) or "nothing"
            raise StoreError(f"files listed out of order, twice or not at all: {shown}; expected {', '.join(names)}")
        return f"{len(names)} files are listed in order, in pages of {_PAGE}"

    try:
        return _try("list in order and pages", check)
    finally:
        for key in expected:
            with suppress(StoreError):
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
