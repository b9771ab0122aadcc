"""The catalog: the runs of a store, as a listing shows them and as their manifests describe them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from mnist_bp.documents import encoding
from mnist_bp.documents.fields import RUN_ID_PATTERN
from mnist_bp.documents.manifest import Manifest
from mnist_bp.errors import ChecksumError, DataFormatError, StoreError
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS, run_key
from mnist_bp.storage.interface import Entry, Store
from mnist_bp.storage.os_errors import RESTORE
from mnist_bp.storage.parallel import in_parallel
from mnist_bp.storage.reading import expect_digest, sha256_of_bytes

RunStatus = Literal["complete", "incomplete", "damaged"]

SEE_VERIFY: Final = "; mnist-bp verify --all lists everything that is damaged"
HINT: Final = RESTORE + SEE_VERIFY

_MAX_SUGGESTIONS: Final = 3


@dataclass(frozen=True)
class ListedRun:
    """A run as a listing shows it.

    Args:
        run_id: Its id.
        files: Its files, by name below its prefix.
    """

    run_id: str
    files: dict[str, Entry] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether the manifest, which is put last, exists."""
        return MANIFEST in self.files

    @property
    def lost_manifest(self) -> bool:
        """Whether the manifest is missing although it existed: only a complete run gets a promotion.json.

        A promotion.json alone was put after gc had listed the run's files and removed them.
        """
        return not self.complete and PROMOTION in self.files and len(self.files) > 1

    @property
    def newest(self) -> datetime:
        """When the newest of its files was put; the year 1 if it has no files."""
        return max((entry.modified for entry in self.files.values()), default=datetime.min.replace(tzinfo=UTC))

    @property
    def size(self) -> int:
        """Size of all its files in bytes."""
        return sum(entry.size for entry in self.files.values())


@dataclass(frozen=True)
class CatalogedRun:
    """A run as its manifest describes it.

    Args:
        listed: Its files.
        manifest: Its manifest; None if it is missing or damaged.
        damage: Why the manifest cannot be used, or None.
    """

    listed: ListedRun
    manifest: Manifest | None
    damage: str | None = None

    @property
    def dataset(self) -> str | None:
        """Name of the dataset; None without an intact manifest."""
        return self.manifest.dataset.name if self.manifest else None

    @property
    def status(self) -> RunStatus:
        """Whether the run has an intact manifest, none, or a damaged one."""
        return "damaged" if self.damage else "complete" if self.manifest else "incomplete"


def list_runs(store: Store, start: str = "") -> Iterator[ListedRun]:
    """List runs of a store, complete or not, in order of run id, from one listing of the store.

    Args:
        store: Store with the runs.
        start: How their ids start, for example 20261123 for a day; by default every run.
    """
    run: ListedRun | None = None
    for entry in store.list_entries(RUNS + start):
        run_id, _, name = entry.key.removeprefix(RUNS).partition("/")
        if run is None or run.run_id != run_id:
            if run is not None:
                yield run
            run = ListedRun(run_id)
        run.files[name] = entry
    if run is not None:
        yield run


def catalog_runs(store: Store, listed: Iterable[ListedRun] | None = None) -> list[CatalogedRun]:
    """Read the manifests of runs.

    Args:
        store: Store with the runs.
        listed: The runs to read; None for every run in the store.

    Returns:
        The runs, in the order of `listed`, or else of run id.

    Raises:
        StoreError: The store cannot be read, which says nothing about its runs.
    """
    return list(in_parallel(lambda run: _catalog_run(store, run), list_runs(store) if listed is None else listed))


def _catalog_run(store: Store, run: ListedRun) -> CatalogedRun:
    if not run.complete:
        return CatalogedRun(run, None)
    key = run_key(run.run_id, MANIFEST)
    try:
        found = store.read(key)
        if found is not None:
            return CatalogedRun(run, _parse_manifest(found, store.uri(key), run.run_id))
    except (ChecksumError, DataFormatError) as exc:
        return CatalogedRun(run, None, str(exc))
    # deleted since it was listed
    return CatalogedRun(ListedRun(run.run_id, {k: v for k, v in run.files.items() if k != MANIFEST}), None)


def read_manifest(store: Store, run_id: str, sha256: str | None = None) -> tuple[Manifest, str]:
    """Read a run's manifest and check it.

    Args:
        store: Store with the run.
        run_id: Id of the run.
        sha256: The expected digest of the manifest, if it is known.

    Returns:
        The manifest, and the SHA-256 of its bytes.

    Raises:
        StoreError: No complete run has this id; the message names the nearest ids.
        ChecksumError, DataFormatError: The manifest is damaged.
    """
    key = run_key(run_id, MANIFEST)
    found = store.read(key) if re.fullmatch(RUN_ID_PATTERN, run_id) else None
    if found is None:
        raise unknown_run(store, run_id)
    digest = sha256_of_bytes(found)
    if sha256 is not None:
        expect_digest(store.uri(key), digest, sha256, HINT)
    return _parse_manifest(found, store.uri(key), run_id), digest


def _parse_manifest(content: bytes, uri: str, run_id: str) -> Manifest:
    manifest = encoding.parse(Manifest, content, uri, HINT)
    if manifest.run_id != run_id:
        raise DataFormatError(f"{uri} is the manifest of {manifest.run_id}, expected {run_id}; {HINT}")
    return manifest


def unknown_run(store: Store, run_id: str) -> StoreError:
    """Return the error for an id that no complete run has; it names the nearest ids."""
    runs, uri = list(list_runs(store)), store.uri(RUNS + run_id)
    if run_id in [run.run_id for run in runs]:
        return StoreError(f"{uri}: the run is not complete: it has no manifest; finish it with --resume {run_id}")
    near = difflib.get_close_matches(run_id, [run.run_id for run in runs if run.complete], _MAX_SUGGESTIONS, cutoff=0)
    expected = f"the nearest are {', '.join(near)}" if near else "no run is complete yet"
    return StoreError(f"{uri}: no such run; {expected}; see mnist-bp runs")
