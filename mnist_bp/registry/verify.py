"""Verification: follow every digest, from the champion's log to the run's manifest, its files and its dataset.

    champion/<dataset>/<n>.json -> the entry before it
                                -> runs/<run id>/manifest.json -> checkpoints, model, history, report
                                                               -> source files, as listed in `data/datasets.py`
    runs/<run id>/promotion.json -> champion/<dataset>/<n>.json
    <data dir>/raw, parquet         see `mnist_bp.data.verify`

A file is parsed only if its digest is correct, and nothing is changed. A run that is removed during verification is not
reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mnist_bp.data.verify import Sources, verify_caches
from mnist_bp.documents.champion import PromotionRecord
from mnist_bp.documents.manifest import DatasetEntry, FileEntry
from mnist_bp.errors import ChecksumError, DataFormatError, StoreError
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS, run_key
from mnist_bp.registry.catalog import ListedRun, list_runs, read_manifest
from mnist_bp.registry.log_entries import list_logs
from mnist_bp.registry.promotion_record import read_promotion
from mnist_bp.registry.verify_logs import CheckedLog, check_decided_runs, check_log, check_named_entries
from mnist_bp.storage.file_check import FileCheck, check_file
from mnist_bp.storage.interface import Store
from mnist_bp.storage.os_errors import RESTORE
from mnist_bp.storage.parallel import in_parallel


@dataclass(frozen=True)
class _Expected:
    """What the manifests are compared with.

    Args:
        champions: The current champions.
        manifests: For each run that is or was champion or challenged one, the digests of its manifest in the logs.
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
        files: Digest and size of its other files, by name.
        promotion: Its promotion record, if it is intact.
    """

    run_id: str
    checks: list[FileCheck]
    files: Mapping[str, FileEntry] = field(default_factory=dict)
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
    read = [check_log(store, dataset) for dataset in list_logs(store)]
    yield from (check for _, checks in read for check in checks)
    logs = [log for log, _ in read if log is not None]
    expected = _expectations(logs, sources)
    listed = list(list_runs(store))
    wanted = None if all_runs else expected.champions if run_id is None else {run_id}
    runs = {run.run_id: run for run in listed if wanted is None or run.run_id in wanted}
    for missing in sorted(expected.champions - set(runs)) if run_id is None else ():
        yield FileCheck(store.uri(RUNS + missing), "missing", f"it is a champion; {RESTORE}, or see mnist-bp rollback")
    if run_id is None:
        yield from _missing_aliased_runs(store, logs, {run.run_id for run in listed})
    checked = []
    for run in in_parallel(partial(_check_run, store, expected), runs.values()):
        yield from run.checks
        checked.append(run)
    files = [(run.run_id, name, entry) for run in checked for name, entry in run.files.items()]
    if files:
        yield from (check for check in in_parallel(partial(_check_file, store), *zip(*files, strict=True)) if check)
    yield from check_decided_runs(store, logs, runs)
    if run_id is None:
        others = [run for run in listed if run.run_id not in runs]
        yield from (FileCheck(store.uri(RUNS + run.run_id), "not read") for run in others)
        yield from check_named_entries(store, logs, [run.promotion for run in checked if run.promotion], others)


def _missing_aliased_runs(store: Store, logs: list[CheckedLog], present: Set[str]) -> Iterator[FileCheck]:
    for each in logs:
        for alias, run_id in sorted(each.log.aliases.items()):
            if run_id not in present:
                detail = (
                    f"the alias {alias} of {each.log.dataset} names it; {RESTORE}, or move the alias: mnist-bp alias"
                )
                yield FileCheck(store.uri(RUNS + run_id), "missing", detail)


def _expectations(logs: list[CheckedLog], sources: Sources) -> _Expected:
    manifests: dict[str, set[str]] = {}
    for each in logs:
        for entry, _ in each.entries.values():
            if entry.run_id is not None and entry.manifest_sha256 is not None:
                manifests.setdefault(entry.run_id, set()).add(entry.manifest_sha256)
    current = frozenset(each.log.current.run_id for each in logs if each.log.current)
    return _Expected(current, manifests, sources)


def _check_run(store: Store, expected: _Expected, run: ListedRun) -> _CheckedRun:
    """Check the manifest and the promotion record of a run, and find its other files."""
    run_id, prefix = run.run_id, run_key(run.run_id)
    uri = store.uri(prefix + MANIFEST)
    if not run.complete:
        if run_id in expected.champions or run.lost_manifest:
            return _CheckedRun(run_id, [FileCheck(uri, "missing", f"the run was complete; {RESTORE}")])
        return _CheckedRun(run_id, [FileCheck(uri, "incomplete", "unfinished, or being published or removed")])
    read, check = check_file(uri, read_manifest, store, run_id)
    if read is None:
        removed = check.status == "unreadable" and MANIFEST not in _present(store, run_id, {MANIFEST})
        return _CheckedRun(run_id, [] if removed else [check])
    manifest, sha256 = read
    checks = [check]
    checks += [
        FileCheck(uri, "damaged", f"its SHA-256 is {sha256}, in the champion's log it is {digest}; {RESTORE}")
        for digest in sorted(expected.manifests.get(run_id, set()) - {sha256})
    ]
    checks += _check_sources(uri, manifest.dataset, expected.sources)
    promotion = None
    if PROMOTION in run.files:
        promotion, check = check_file(store.uri(prefix + PROMOTION), read_promotion, store, run_id)
        checks.append(check)
    foreign = sorted(set(run.files) - set(manifest.files) - {MANIFEST, PROMOTION})
    checks += [FileCheck(store.uri(prefix + name), "foreign", "no manifest lists it") for name in foreign]
    return _CheckedRun(run_id, checks, manifest.files, promotion)


def _check_sources(uri: str, dataset: DatasetEntry, sources: Sources) -> Iterator[FileCheck]:
    """Compare the source files that a run was trained on with those of its dataset."""
    for name, known in sources.get(dataset.name, {}).items():
        used = dataset.sources[name].sha256 if name in dataset.sources else None
        if used is None or known not in (None, used):
            expected = known or "another SHA-256"
            detail = f"the run was trained on a {name} of SHA-256 {used}, expected {expected} for {dataset.name}"
            yield FileCheck(uri, "damaged", detail)


def _check_file(store: Store, run_id: str, name: str, entry: FileEntry) -> FileCheck | None:
    """Check one file of a run; return None if the whole run was removed in the meantime."""
    key = run_key(run_id, name)
    _, check = check_file(store.uri(key), store.get, key, entry.sha256, entry.size)
    if check.status != "unreadable":
        return check
    present = _present(store, run_id, {MANIFEST, name})
    if MANIFEST not in present:
        return None
    return check if name in present else FileCheck(check.uri, "missing", f"its manifest lists it; {RESTORE}")


def _present(store: Store, run_id: str, otherwise: set[str]) -> set[str]:
    """Return the names of a run's files, or `otherwise` if the store cannot be listed."""
    prefix = run_key(run_id)
    try:
        return {entry.key.removeprefix(prefix) for entry in store.list_entries(prefix)}
    except StoreError:
        return otherwise
