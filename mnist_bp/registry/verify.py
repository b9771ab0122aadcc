"""Verification: follow every digest, from the champion file to the run's manifest, its files and its dataset.

    champion/<dataset>.json -> runs/<run id>/manifest.json -> checkpoints, model, history, report
                                                           -> source files, as listed in `data/datasets.py`
                               runs/<run id>/promotion.json; if it names a champion, a champion file exists
    <data dir>/raw, parquet    see `mnist_bp.data.verify`

A file is parsed only if its digest is correct, and nothing is changed. A run that is removed during verification is not
reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from mnist_bp.data.verify import Sources, verify_caches
from mnist_bp.documents import DatasetEntry, PromotionRecord
from mnist_bp.errors import ChecksumError, DataFormatError, StoreError
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS
from mnist_bp.registry.catalog import ListedRun, list_runs, read_manifest
from mnist_bp.registry.champion import (
    Champion,
    champion_key,
    describe_lost_champion_file,
    list_champions,
    read_champion,
)
from mnist_bp.registry.promotion_record import lost_champion_files, read_promotion, read_promotions
from mnist_bp.storage.file_check import FileCheck, check_file
from mnist_bp.storage.interface import Store
from mnist_bp.storage.parallel import in_parallel

_HINT: Final = "restore it from a copy"


@dataclass(frozen=True)
class _Expected:
    """What the manifests are compared with.

    Args:
        champions: The current champions.
        manifests: For each run that is or was champion, the digests of its manifest in champion files.
        sources: SHA-256 of the datasets' source files.
    """

    champions: frozenset[str]
    manifests: Mapping[str, Set[str]]
    sources: Sources


@dataclass(frozen=True)
class _CheckedRun:
    """A run after its manifest and its promotion record have been checked.

    Args:
        run_id: Its id.
        checks: The results.
        digests: SHA-256 of its other files, by name.
        promotion: Its promotion record, if it is intact.
    """

    run_id: str
    checks: list[FileCheck]
    digests: Mapping[str, str] = field(default_factory=dict)
    promotion: PromotionRecord | None = None


def verify(store: Store, data_dir: Path, run_id: str | None = None, *, all_runs: bool = False) -> Iterator[FileCheck]:
    """Verify published runs and the caches of the data directory, several files at a time.

    Args:
        store: Store with the runs.
        data_dir: Directory of downloads and Parquet caches; it may be missing.
        run_id: The only run to verify; by default the champions of all datasets.
        all_runs: Whether to verify every run.

    Raises:
        StoreError: The run does not exist or is not complete, or the store cannot be listed.
    """
    if run_id is not None:
        with suppress(ChecksumError, DataFormatError):  # reported below
            read_manifest(store, run_id)
    caches, sources = verify_caches(data_dir)
    yield from caches
    read = list(in_parallel(partial(_check_champion, store), list_champions(store)))
    yield from (check for _, check in read)
    champions = [champion for champion, _ in read if champion is not None]
    expected = _expectations(champions, sources)
    listed = list(list_runs(store))
    wanted = None if all_runs else expected.champions if run_id is None else {run_id}
    runs = {run.run_id: run for run in listed if wanted is None or run.run_id in wanted}
    for missing in sorted(expected.champions - set(runs)) if run_id is None else ():
        yield FileCheck(store.uri(RUNS + missing), "missing", f"it is a champion; {_HINT}, or see mnist-bp rollback")
    checked = []
    for run in in_parallel(partial(_check_run, store, expected), runs.values()):
        yield from run.checks
        checked.append(run)
    files = [(run.run_id, name, sha256) for run in checked for name, sha256 in run.digests.items()]
    if files:
        yield from (check for check in in_parallel(partial(_check_file, store), *zip(*files, strict=True)) if check)
    yield from _check_records(store, champions, runs)
    if run_id is None:
        others = [run for run in listed if run.run_id not in expected.manifests and run.run_id not in runs]
        yield from _check_lost_files(store, [run.promotion for run in checked if run.promotion], others)


def _check_champion(store: Store, dataset: str) -> tuple[Champion | None, FileCheck]:
    return check_file(store.uri(champion_key(dataset)), read_champion, store, dataset)


def _expectations(champions: list[Champion], sources: Sources) -> _Expected:
    manifests: dict[str, set[str]] = {}
    for champion in champions:
        for change in champion.history:
            manifests.setdefault(change.run_id, set()).add(change.manifest_sha256)
    current = frozenset(champion.current.run_id for champion in champions if champion.current)
    return _Expected(current, manifests, sources)


def _check_run(store: Store, expected: _Expected, run: ListedRun) -> _CheckedRun:
    """Check the manifest and the promotion record of a run, and find its other files."""
    run_id, prefix = run.run_id, f"{RUNS}{run.run_id}/"
    uri = store.uri(prefix + MANIFEST)
    if not run.complete:
        if run_id in expected.champions or run.lost_manifest:
            return _CheckedRun(run_id, [FileCheck(uri, "missing", f"the run was complete; {_HINT}")])
        return _CheckedRun(run_id, [FileCheck(uri, "incomplete", "unfinished, or being published or removed")])
    read, check = check_file(uri, read_manifest, store, run_id)
    if read is None:
        removed = check.status == "unreadable" and MANIFEST not in _present(store, run_id, {MANIFEST})
        return _CheckedRun(run_id, [] if removed else [check])
    manifest, sha256 = read
    checks = [check]
    checks += [
        FileCheck(uri, "damaged", f"its SHA-256 is {sha256}, in a champion file it is {digest}; {_HINT}")
        for digest in sorted(expected.manifests.get(run_id, set()) - {sha256})
    ]
    checks += _check_sources(uri, manifest.dataset, expected.sources)
    promotion = None
    if PROMOTION in run.files:
        promotion, check = check_file(store.uri(prefix + PROMOTION), read_promotion, store, run_id)
        checks.append(check)
    foreign = sorted(set(run.files) - set(manifest.files) - {MANIFEST, PROMOTION})
    checks += [FileCheck(store.uri(prefix + name), "foreign", "no manifest lists it") for name in foreign]
    return _CheckedRun(run_id, checks, {name: file.sha256 for name, file in manifest.files.items()}, promotion)


def _check_sources(uri: str, dataset: DatasetEntry, sources: Sources) -> Iterator[FileCheck]:
    """Compare the source files that a run was trained on with those of its dataset."""
    for name, known in sources.get(dataset.name, {}).items():
        used = dataset.sources[name].sha256 if name in dataset.sources else None
        if used is None or known not in (None, used):
            expected = known or "another SHA-256"
            detail = f"the run was trained on a {name} of SHA-256 {used}, expected {expected} for {dataset.name}"
            yield FileCheck(uri, "damaged", detail)


def _check_file(store: Store, run_id: str, name: str, sha256: str) -> FileCheck | None:
    """Check one file of a run; return None if the whole run was removed in the meantime."""
    key = f"{RUNS}{run_id}/{name}"
    _, check = check_file(store.uri(key), store.get, key, sha256)
    if check.status != "unreadable":
        return check
    present = _present(store, run_id, {MANIFEST, name})
    if MANIFEST not in present:
        return None
    return check if name in present else FileCheck(check.uri, "missing", f"its manifest lists it; {_HINT}")


def _present(store: Store, run_id: str, otherwise: set[str]) -> set[str]:
    """Return the names of a run's files, or `otherwise` if the store cannot be listed."""
    prefix = f"{RUNS}{run_id}/"
    try:
        return {entry.key.removeprefix(prefix) for entry in store.list_entries(prefix)}
    except StoreError:
        return otherwise


def _check_records(store: Store, champions: list[Champion], runs: Mapping[str, ListedRun]) -> Iterator[FileCheck]:
    """Report runs that were promoted, according to a champion's history, and have no promotion record."""
    for champion in champions:
        promoted = {change.run_id for change in champion.history if change.action == "promote"}
        for run_id in sorted(promoted.intersection(runs).difference(champion.pending_deletion)):
            if runs[run_id].complete and PROMOTION not in runs[run_id].files:
                detail = f"the champion's history has its promotion; --resume {run_id} puts the record as well"
                yield FileCheck(store.uri(f"{RUNS}{run_id}/{PROMOTION}"), "incomplete", detail)


def _check_lost_files(store: Store, checked: list[PromotionRecord], others: Iterable[ListedRun]) -> Iterator[FileCheck]:
    """Report datasets without a champion file although a promotion record names a champion.

    Args:
        store: Store with the champion files.
        checked: Records that were read already.
        others: Runs whose records must still be read.
    """
    try:
        records = [*read_promotions(store, others), *checked]
        lost = lost_champion_files(store, sorted(records, key=lambda record: record.run_id))
    except StoreError as exc:
        yield FileCheck(store.uri(RUNS), "unreadable", str(exc))
        return
    for dataset, run_id in lost.items():
        detail = describe_lost_champion_file(store, dataset, run_id)
        yield FileCheck(store.uri(champion_key(dataset)), "missing", detail)
