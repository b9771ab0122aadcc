"""The runs of a store: which there are, and what their manifests say."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from mnist_bp.errors import StoreError
from mnist_bp.files import expect_digest, sha256_of_bytes
from mnist_bp.sealed import unseal
from mnist_bp.store import Entry, Store

RUNS: Final = "runs/"
MANIFEST: Final = "manifest.json"

_NEAREST: Final = 3


@dataclass(frozen=True)
class ListedRun:
    """A run as a listing shows it.

    Args:
        run_id: Its name.
        files: What is there of it, by name below its prefix.
    """

    run_id: str
    files: dict[str, Entry] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether its manifest, which is put last, is there."""
        return MANIFEST in self.files


def list_runs(store: Store) -> Iterator[ListedRun]:
    """List every run of a store, whole or not, in order of run id; one listing of the store."""
    run: ListedRun | None = None
    for entry in store.list(RUNS):
        run_id, _, name = entry.key.removeprefix(RUNS).partition("/")
        if run is None or run.run_id != run_id:
            if run is not None:
                yield run
            run = ListedRun(run_id)
        run.files[name] = entry
    if run is not None:
        yield run


def read_manifest(store: Store, run_id: str, sha256: str | None = None) -> tuple[dict[str, Any], str]:
    """Read a run's manifest after proving it.

    Args:
        store: Where the run was published.
        run_id: Which.
        sha256: Its digest, where a pointer states it.

    Returns:
        The manifest, and the SHA-256 of its bytes.

    Raises:
        StoreError: There is no such run, or none that is complete; names those whose ids are nearest.
        ChecksumError, DataFormatError: It is damaged.
    """
    key = f"{RUNS}{run_id}/{MANIFEST}"
    found = store.read(key)
    if found is None:
        raise StoreError(_unknown(store, run_id))
    digest = sha256_of_bytes(found.content)
    remedy = "restore it from a copy, or see mnist-bp verify"
    if sha256 is not None:
        expect_digest(store.uri(key), digest, sha256, remedy)
    return unseal(found.content, store.uri(key), remedy), digest


def _unknown(store: Store, run_id: str) -> str:
    runs = list(list_runs(store))
    complete = [run.run_id for run in runs if run.complete]
    what = f"{store.uri(RUNS + run_id)}: "
    if any(run.run_id == run_id for run in runs):
        return f"{what}the run is not complete: it has no manifest; finish it with --resume {run_id}"
    near = difflib.get_close_matches(run_id, complete, n=_NEAREST, cutoff=0)
    expected = f"the nearest are {', '.join(near)}" if near else "there is none yet"
    return f"{what}no such run; {expected}; see mnist-bp runs"
