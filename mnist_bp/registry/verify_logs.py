"""Verification of the logs of champions: the entries, and the promotion records that must agree with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from mnist_bp.documents.champion import LogEntry, PromotionRecord
from mnist_bp.errors import DataFormatError, StoreError
from mnist_bp.layout import PROMOTION, RUNS, run_key
from mnist_bp.registry.catalog import ListedRun
from mnist_bp.registry.champion_state import ChampionLog, log_after
from mnist_bp.registry.log_entries import (
    check_gaps,
    check_succession,
    entry_key,
    list_sequences,
    log_prefix,
    read_entry,
)
from mnist_bp.registry.promotion_record import find_contradictions, read_promotions
from mnist_bp.storage.file_check import FileCheck, check_file
from mnist_bp.storage.interface import Store
from mnist_bp.storage.parallel import in_parallel


@dataclass(frozen=True)
class CheckedLog:
    """A log whose entries are intact and continue each other.

    Args:
        log: Its head.
        entries: All entries, by number, with the SHA-256 of their bytes.
    """

    log: ChampionLog
    entries: Mapping[int, tuple[LogEntry, str]]


def check_log(store: Store, dataset: str) -> tuple[CheckedLog | None, list[FileCheck]]:
    """Read a log as a whole.

    Returns:
        The log, or None if it is damaged; and a result for each entry from its start on, and for each missing one.
    """
    sequences = list_sequences(store, dataset)
    if not sequences:
        return CheckedLog(ChampionLog(dataset), {}), []
    check = partial(_check_entry, store, dataset)
    head, *_ = last = check(sequences[-1])
    if head is None:
        return None, [last[1]]
    entry, sha256 = head
    earlier = [sequence for sequence in sequences[:-1] if sequence >= entry.start]
    found = dict(zip(earlier, in_parallel(check, earlier), strict=True)) | {sequences[-1]: last}
    checks = [each for _, each in found.values()]
    entries = {sequence: read for sequence, (read, _) in found.items() if read is not None}
    try:
        check_gaps(store, entry, sequences)
        for before, after in pairwise(sorted(entries)):
            if after == before + 1:
                check_succession(store, entries[after][0], entries[before][1])
    except DataFormatError as exc:
        checks.append(FileCheck(store.uri(log_prefix(dataset)), "damaged", str(exc)))
    whole = all(each.status == "ok" for each in checks)
    return CheckedLog(log_after(entry, sha256), entries) if whole else None, checks


def _check_entry(store: Store, dataset: str, sequence: int) -> tuple[tuple[LogEntry, str] | None, FileCheck]:
    return check_file(store.uri(entry_key(dataset, sequence)), read_entry, store, dataset, sequence)


def check_decided_runs(store: Store, logs: list[CheckedLog], runs: Mapping[str, ListedRun]) -> Iterator[FileCheck]:
    """Report runs that were decided about, according to a log, and have no promotion record."""
    for each in logs:
        entries = [entry for entry, _ in each.entries.values()]
        decided = {entry.run_id for entry in entries if entry.action in ("promote", "keep") and entry.run_id}
        for run_id in sorted(decided.intersection(runs).difference(each.log.pending_deletion)):
            if runs[run_id].complete and PROMOTION not in runs[run_id].files:
                detail = f"the champion's log has the decision; --resume {run_id} puts the record as well"
                yield FileCheck(store.uri(run_key(run_id, PROMOTION)), "incomplete", detail)


def check_named_entries(
    store: Store, logs: list[CheckedLog], checked: list[PromotionRecord], others: Iterable[ListedRun]
) -> Iterator[FileCheck]:
    """Report logs that lack an entry which a promotion record names.

    Args:
        store: Store with the logs.
        logs: The intact logs.
        checked: Records that were read already.
        others: Runs whose records must still be read.
    """
    try:
        records = [*read_promotions(store, others), *checked]
    except StoreError as exc:
        yield FileCheck(store.uri(RUNS), "unreadable", str(exc))
        return
    known = {each.log.dataset: each for each in logs}
    for dataset in sorted({record.dataset for record in records if record.log_entry is not None}):
        log: CheckedLog | None = known.get(dataset)
        if log is None or any(find_contradictions(store, log.log, log.entries, records)):
            # read again: it may have entries that are newer than the first reading; damage was reported then
            log = check_log(store, dataset)[0]
        for problem in find_contradictions(store, log.log, log.entries, records) if log else ():
            yield FileCheck(store.uri(log_prefix(dataset)), "missing", problem)
