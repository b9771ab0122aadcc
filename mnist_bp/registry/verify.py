"""Verify: follow every digest, from the champion's pointer to its run's manifest, to every file, to the dataset.

    champion/<dataset>.json -> runs/<run id>/manifest.json -> checkpoints, model, history, report
                                                           -> the dataset's sources, as `data/datasets.py` has them
                               runs/<run id>/promotion.json, which has a checksum; if it names a champion, there is a
                                                           pointer to one
    <data dir>/raw, parquet    see `mnist_bp.data.verify`

Nothing is parsed whose digest is wrong, and nothing is changed. A run that is removed while it is being verified is no
finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
from mnist_bp.registry.champion import Champion, champion_key, list_champions, pointer_is_gone, read_champion
from mnist_bp.registry.promotion_record import lost_pointers, read_promotion, read_promotions
from mnist_bp.storage.file_check import FileCheck, check_file
from mnist_bp.storage.interface import Store
from mnist_bp.storage.parallel import in_parallel

_REMEDY: Final = "restore it from a copy"


@dataclass(frozen=True)
class _File:
    """A file that a manifest names."""

    run_id: str
    name: str
    sha256: str


@dataclass(frozen=True)
class _Proved:
    """What became of verifying what a run says about itself.

    Args:
        findings: On its manifest and its promotion.
        files: Which are to be verified next.
        promotion: What was decided about it, if that is there and intact.
    """

    findings: list[FileCheck]
    files: list[_File] = field(default_factory=list)
    promotion: PromotionRecord | None = None


@dataclass(frozen=True)
class _Expected:
    """What manifests are held to, in addition to their checksums.

    Args:
        champions: Runs that pointers point at now.
        manifests: For each run that is or was champion, the digests of its manifest that pointers state.
        sources: Of the datasets.
    """

    champions: frozenset[str]
    manifests: Mapping[str, set[str]]
    sources: Sources


def verify(store: Store, data_dir: Path, run_id: str | None = None, *, all_runs: bool = False) -> Iterator[FileCheck]:
    """Verify published runs, and the data directory's caches; several files at a time.

    Args:
        store: Where runs were published.
        data_dir: Where downloads and Parquet caches are, if anywhere.
        run_id: The only run to verify; by default the champions of all datasets.
        all_runs: Verify every run.

    Raises:
        StoreError: There is no such run, or it is not complete, or the store cannot be listed.
    """
    if run_id is not None:
        with suppress(ChecksumError, DataFormatError):  # to be found below
            read_manifest(store, run_id)
    caches, sources = verify_caches(data_dir)
    yield from caches
    pointers = list(in_parallel(partial(_read_pointer, store), list_champions(store)))
    yield from (finding for _, finding in pointers)
    champions = [champion for champion, _ in pointers if champion is not None]
    expected = _expectations(champions, sources)
    wanted = None if all_runs else expected.champions if run_id is None else {run_id}
    listed = list(list_runs(store))
    runs = {run.run_id: run for run in listed if wanted is None or run.run_id in wanted}
    for gone in sorted(expected.champions - set(runs)) if run_id is None else ():
        yield FileCheck(store.uri(RUNS + gone), "missing", f"it is a champion; {_REMEDY}, or see mnist-bp rollback")
    files: list[_File] = []
    decided: list[PromotionRecord] = []
    for proved in in_parallel(partial(_verify_run, store, expected), runs.values()):
        yield from proved.findings
        files += proved.files
        decided += [proved.promotion] if proved.promotion else []
    yield from (finding for finding in in_parallel(partial(_verify_file, store), files) if finding is not None)
    for unrecorded in _find_unrecorded_promotions(champions, runs):
        detail = f"the champion's history tells of its promotion; --resume {unrecorded} records it there, too"
        yield FileCheck(store.uri(f"{RUNS}{unrecorded}/{PROMOTION}"), "incomplete", detail)
    if run_id is None:
        others = [run for run in listed if run.run_id not in expected.manifests and run.run_id not in runs]
        yield from _find_lost_pointers(store, decided, others)


def _read_pointer(store: Store, dataset: str) -> tuple[Champion | None, FileCheck]:
    return check_file(store.uri(champion_key(dataset)), read_champion, store, dataset)


def _find_lost_pointers(
    store: Store, decided: list[PromotionRecord], others: Iterable[ListedRun]
) -> Iterator[FileCheck]:
    """Look for datasets that have no pointer though what was decided about their runs names a champion.

    Args:
        store: Where pointers and records are.
        decided: Records that were proved already.
        others: Runs whose records may tell more.
    """
    try:
        everything = [*read_promotions(store, others), *decided]
        found = lost_pointers(store, sorted(everything, key=lambda promotion: promotion.run_id))
    except StoreError as exc:
        yield FileCheck(store.uri(RUNS), "unreadable", str(exc))
        return
    for dataset, run_id in found.items():
        yield FileCheck(store.uri(champion_key(dataset)), "missing", pointer_is_gone(store, dataset, run_id))


def _find_unrecorded_promotions(champions: list[Champion], runs: Mapping[str, ListedRun]) -> Iterator[str]:
    """Find runs that became champion, by the history, and have no record of it; what it would tell is not lost."""
    for champion in champions:
        promoted = {change.run_id for change in champion.history if change.action == "promote"}
        for run_id in sorted(promoted.intersection(runs).difference(champion.pending_deletion)):
            if runs[run_id].complete and PROMOTION not in runs[run_id].files:
                yield run_id


def _expectations(champions: list[Champion], sources: Sources) -> _Expected:
    manifests: dict[str, set[str]] = {}
    for champion in champions:
        for change in champion.history:
            manifests.setdefault(change.run_id, set()).add(change.manifest_sha256)
    current = frozenset(champion.current.run_id for champion in champions if champion.current)
    return _Expected(current, manifests, sources)


def _verify_run(store: Store, expected: _Expected, run: ListedRun) -> _Proved:
    """Verify what a run says about itself."""
    prefix = f"{RUNS}{run.run_id}/"
    uri = store.uri(prefix + MANIFEST)
    if not run.complete:
        if run.run_id in expected.champions or run.lost_manifest:
            return _Proved([FileCheck(uri, "missing", f"the run was complete; {_REMEDY}")])
        return _Proved([FileCheck(uri, "incomplete", "the run was not finished, is being published, or removed")])
    found, finding = check_file(uri, read_manifest, store, run.run_id)
    if found is None:
        removed = finding.status == "unreadable" and MANIFEST not in _names_of(store, run.run_id, [MANIFEST])
        return _Proved([] if removed else [finding])
    manifest, sha256 = found
    findings = [finding]
    findings += [
        FileCheck(uri, "damaged", f"its SHA-256 is {sha256}, a champion's pointer states {digest}; {_REMEDY}")
        for digest in sorted(expected.manifests.get(run.run_id, set()) - {sha256})
    ]
    findings += _verify_sources(uri, manifest.dataset, expected.sources)
    promotion = None
    if PROMOTION in run.files:
        promotion, finding = check_file(store.uri(prefix + PROMOTION), read_promotion, store, run.run_id)
        findings.append(finding)
    foreign = sorted(set(run.files) - set(manifest.files) - {MANIFEST, PROMOTION})
    findings += [FileCheck(store.uri(prefix + name), "foreign", "no manifest names it") for name in foreign]
    files = [_File(run.run_id, name, file.sha256) for name, file in manifest.files.items()]
    return _Proved(findings, files, promotion)


def _verify_sources(uri: str, dataset: DatasetEntry, sources: Sources) -> Iterator[FileCheck]:
    """Compare the files that a run was trained on with those that its dataset consists of."""
    for name, known in sources.get(dataset.name, {}).items():
        used = dataset.sources[name].sha256 if name in dataset.sources else None
        if used is None or known not in (None, used):
            detail = f"the run was trained on a {name} of SHA-256 {used}; {dataset.name} has {known or 'another'}"
            yield FileCheck(uri, "damaged", detail)


def _verify_file(store: Store, file: _File) -> FileCheck | None:
    """Prove one file; None where its whole run was removed in the meantime."""
    key = f"{RUNS}{file.run_id}/{file.name}"
    finding = check_file(store.uri(key), store.get, key, file.sha256)[1]
    if finding.status != "unreadable":
        return finding
    there = _names_of(store, file.run_id, [MANIFEST, file.name])
    if MANIFEST not in there:
        return None
    return finding if file.name in there else FileCheck(finding.uri, "missing", f"its manifest names it; {_REMEDY}")


def _names_of(store: Store, run_id: str, unless_told: list[str]) -> set[str]:
    """Name what is there of a run now; where the store does not say, what was there before."""
    prefix = f"{RUNS}{run_id}/"
    try:
        return {entry.key.removeprefix(prefix) for entry in store.list_entries(prefix)}
    except StoreError:
        return set(unless_told)
