"""The runs of a store: which there are, and what their manifests say."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from mnist_bp import documents
from mnist_bp.documents import Manifest
from mnist_bp.errors import ChecksumError, DataFormatError, StoreError
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS
from mnist_bp.storage.files import expect_digest, sha256_of_bytes
from mnist_bp.storage.interface import Entry, Store
from mnist_bp.storage.parallel import in_parallel

_ONE_NAME: Final = re.compile(r"[\w-]+")
"""What names a run: no slash and no dot, so no other place."""

_REMEDY: Final = "restore it from a copy; mnist-bp verify tells what else is damaged"
_NEAREST: Final = 3

RunStatus = Literal["complete", "incomplete", "damaged"]


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

    @property
    def lost_manifest(self) -> bool:
        """Whether its manifest was there and is gone: only a complete run gets a promotion.json."""
        return not self.complete and PROMOTION in self.files

    @property
    def newest(self) -> datetime:
        """When the last of its files was put; the beginning of time where there is none any more."""
        return max((entry.modified for entry in self.files.values()), default=datetime.min.replace(tzinfo=UTC))

    @property
    def size(self) -> int:
        """Size of all its files."""
        return sum(entry.size for entry in self.files.values())


@dataclass(frozen=True)
class CatalogedRun:
    """A run as its manifest describes it.

    Args:
        listed: What is there of it.
        manifest: What it says; None where there is none, or where it cannot be believed.
        damage: Why it cannot; None for one that is intact, or not there.
    """

    listed: ListedRun
    manifest: Manifest | None
    damage: str | None = None

    @property
    def dataset(self) -> str | None:
        """What it was trained on, where its manifest tells."""
        return self.manifest.dataset.name if self.manifest else None

    @property
    def status(self) -> RunStatus:
        """Whether the run has an intact manifest, none, or a damaged one."""
        return "damaged" if self.damage else "complete" if self.manifest else "incomplete"


def list_runs(store: Store) -> Iterator[ListedRun]:
    """List every run of a store, whole or not, in order of run id; one listing of the store."""
    run: ListedRun | None = None
    for entry in store.list_entries(RUNS):
        run_id, _, name = entry.key.removeprefix(RUNS).partition("/")
        if run is None or run.run_id != run_id:
            if run is not None:
                yield run
            run = ListedRun(run_id)
        run.files[name] = entry
    if run is not None:
        yield run


def catalog_runs(store: Store, listed: Iterable[ListedRun] | None = None) -> list[CatalogedRun]:
    """List runs of a store with their manifests, in order of run id.

    Args:
        store: Where they were published.
        listed: Which of them; None for every run.

    Raises:
        StoreError: The store cannot be read, which says nothing about its runs.
    """
    return list(in_parallel(lambda run: _catalog_run(store, run), list_runs(store) if listed is None else listed))


def _catalog_run(store: Store, run: ListedRun) -> CatalogedRun:
    if not run.complete:
        return CatalogedRun(run, None)
    key = f"{RUNS}{run.run_id}/{MANIFEST}"
    found = store.read(key)
    if found is None:  # removed since it was listed
        return CatalogedRun(ListedRun(run.run_id, {k: v for k, v in run.files.items() if k != MANIFEST}), None)
    try:
        return CatalogedRun(run, _parse_manifest(found.content, store.uri(key), run.run_id))
    except (ChecksumError, DataFormatError) as exc:
        return CatalogedRun(run, None, str(exc))


def read_manifest(store: Store, run_id: str, sha256: str | None = None) -> tuple[Manifest, str]:
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
    found = store.read(key) if _ONE_NAME.fullmatch(run_id) else None
    if found is None:
        raise StoreError(_unknown(store, run_id))
    digest = sha256_of_bytes(found.content)
    if sha256 is not None:
        expect_digest(store.uri(key), digest, sha256, _REMEDY)
    return _parse_manifest(found.content, store.uri(key), run_id), digest


def _parse_manifest(content: bytes, uri: str, run_id: str) -> Manifest:
    manifest = documents.parse(Manifest, content, uri, _REMEDY)
    if manifest.run_id != run_id:
        raise DataFormatError(f"{uri} is the manifest of {manifest.run_id}, expected {run_id}; {_REMEDY}")
    return manifest


def _unknown(store: Store, run_id: str) -> str:
    runs = list(list_runs(store))
    complete = [run.run_id for run in runs if run.complete]
    what = f"{store.uri(RUNS + run_id)}: "
    if any(run.run_id == run_id for run in runs):
        return f"{what}the run is not complete: it has no manifest; finish it with --resume {run_id}"
    near = difflib.get_close_matches(run_id, complete, n=_NEAREST, cutoff=0)
    expected = f"the nearest are {', '.join(near)}" if near else "there is none yet"
    return f"{what}no such run; {expected}; see mnist-bp runs"
