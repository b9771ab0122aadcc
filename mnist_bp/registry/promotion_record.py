"""The promotion records of runs, and whether the log of the champion has the entries that they name.

    <artifacts>/runs/<run id>/promotion.json    PromotionRecord; put once, after the manifest, which does not list it

An entry is added to the log before the record that names it is put. So if a log lacks an entry that a record names, the
entry was lost: the log was deleted, or an older copy of it was put back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mnist_bp.documents import encoding
from mnist_bp.documents.champion import LogEntry, PromotionRecord
from mnist_bp.errors import ChecksumError, ConflictError, DataFormatError, printable
from mnist_bp.layout import PROMOTION, run_key
from mnist_bp.registry.catalog import ListedRun, list_runs
from mnist_bp.registry.champion import read_history, read_log
from mnist_bp.registry.champion_state import ChampionLog
from mnist_bp.registry.log_entries import entry_key, list_logs, restart_hint
from mnist_bp.storage.interface import Store
from mnist_bp.storage.os_errors import RESTORE
from mnist_bp.storage.parallel import in_parallel
from mnist_bp.storage.reading import sha256_of_bytes

logger = logging.getLogger(__name__)


def record_promotion(store: Store, promotion: PromotionRecord) -> PromotionRecord:
    """Put the record of a run, once.

    Returns:
        The record in the store: this one, or an earlier one of another process with the same outcome.

    Raises:
        ConflictError: The record in the store has another outcome.
        ChecksumError, DataFormatError: The record in the store is damaged.
        StoreError: The store refused the record.
    """
    content = encoding.dumps(promotion)
    try:
        store.put(run_key(promotion.run_id, PROMOTION), content, sha256_of_bytes(content))
    except ConflictError:
        recorded = read_promotion(store, promotion.run_id)
        if recorded is None or recorded.outcome != promotion.outcome:
            raise
        return recorded
    return promotion


def read_promotion(store: Store, run_id: str) -> PromotionRecord | None:
    """Read the record of a run; None if it has none.

    Raises:
        ChecksumError, DataFormatError: The record is damaged.
    """
    key = run_key(run_id, PROMOTION)
    found = store.read(key)
    if found is None:
        return None
    hint = f"{RESTORE}, or delete it and run with --resume {run_id}"
    promotion = encoding.parse(PromotionRecord, found, store.uri(key), hint)
    if promotion.run_id != run_id:
        raise DataFormatError(f"{store.uri(key)} is the record of {promotion.run_id}, expected {run_id}; {hint}")
    return promotion


def read_promotions(store: Store, runs: Iterable[ListedRun]) -> Iterator[PromotionRecord]:
    """Read the records of runs, several at a time, in their order. Damaged records are left out, with a warning each.

    Raises:
        StoreError: The store cannot be read, which says nothing about its runs.
    """

    def read(run: ListedRun) -> PromotionRecord | None:
        try:
            return read_promotion(store, run.run_id)
        except (ChecksumError, DataFormatError) as exc:
            logger.warning(f"left out: {printable(str(exc))}")
            return None

    found = in_parallel(read, [run for run in runs if PROMOTION in run.files])
    return (promotion for promotion in found if promotion is not None)


def read_existing_log(store: Store, dataset: str) -> ChampionLog:
    """Read the log of a dataset's champion; an empty log is accepted only if no promotion record names a champion.

    Only while a dataset has no champion are the records of all runs read.

    Raises:
        ChecksumError, DataFormatError: The log is damaged or lost; without this check, the next run would become
            champion even if it is worse.
    """
    log = read_log(store, dataset)
    refuse_lost_log(store, log)
    return log


def refuse_lost_log(store: Store, log: ChampionLog) -> None:
    """Raise an error if a log is empty and a promotion record names an entry of it; see `read_existing_log`."""
    if log.sequence < 0:
        records = read_promotions(store, list_runs(store))
        for problem in find_contradictions(store, log, {}, records):
            raise DataFormatError(problem)


def datasets_with_champion(store: Store) -> list[str]:
    """List the datasets that have a log or, if no log exists, those that had one according to promotion records."""
    records = [] if (found := list_logs(store)) else read_promotions(store, list_runs(store))
    return found or sorted({record.dataset for record in records if record.log_entry is not None})


def find_contradictions(
    store: Store, log: ChampionLog, history: Mapping[int, tuple[LogEntry, str]], records: Iterable[PromotionRecord]
) -> Iterator[str]:
    """Find promotion records that name an entry which the log does not have: an older copy of it was put back.

    Args:
        store: Store with the log.
        log: The log.
        history: Its entries and the SHA-256 of their bytes, by number; see `read_history`.
        records: Promotion records, of any dataset.

    Returns:
        A line for each such record, with what to do.
    """
    for record in records:
        entry = record.log_entry
        if record.dataset != log.dataset or entry is None or entry.sequence < log.start:
            continue
        _, sha256 = history.get(entry.sequence, (None, None))
        if sha256 != entry.sha256:
            found = f"has SHA-256 {sha256}" if sha256 else "is missing"
            yield (
                f"{store.uri(entry_key(log.dataset, entry.sequence))} {found}, expected the entry of SHA-256 "
                f"{entry.sha256} that the promotion record of {record.run_id} names, with champion "
                f"{record.champion_after}; {restart_hint(log.dataset)}"
            )


def is_log_intact(store: Store, dataset: str, records: Sequence[PromotionRecord]) -> bool:
    """Return whether the log of a dataset is whole and has every entry that a promotion record names.

    Args:
        store: Store with the log.
        dataset: Name of the dataset.
        records: All promotion records of the store, read before this call.

    Raises:
        StoreError: The log cannot be read, which says nothing about it.
    """
    try:
        log = read_log(store, dataset)
        history = read_history(store, log)
    except (ChecksumError, DataFormatError):
        return False
    return not any(find_contradictions(store, log, history, records))
