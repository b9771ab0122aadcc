"""The promotion records of runs, and what they show together: champion files that were lost.

    <artifacts>/runs/<run id>/promotion.json    PromotionRecord; put once, after the manifest, which does not list it

A champion file is changed before the record of the change is put. So if a record names a champion and its dataset has
no champion file, the file was lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from mnist_bp import documents
from mnist_bp.documents import PromotionRecord
from mnist_bp.errors import ChecksumError, ConflictError, DataFormatError
from mnist_bp.layout import PROMOTION, RUNS
from mnist_bp.registry.catalog import ListedRun, list_runs
from mnist_bp.registry.champion import list_champions
from mnist_bp.storage.files import sha256_of_bytes
from mnist_bp.storage.interface import Store
from mnist_bp.storage.parallel import in_parallel


def record_promotion(store: Store, promotion: PromotionRecord) -> PromotionRecord:
    """Put the record of a run, once.

    Returns:
        The record in the store: this one, or an earlier one of another process with the same outcome.

    Raises:
        ConflictError: The record in the store has another outcome.
        ChecksumError, DataFormatError: The record in the store is damaged.
        StoreError: The store refused the record.
    """
    content = documents.dumps(promotion)
    try:
        store.put(f"{RUNS}{promotion.run_id}/{PROMOTION}", content, sha256_of_bytes(content))
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
    key = f"{RUNS}{run_id}/{PROMOTION}"
    found = store.read(key)
    if found is None:
        return None
    hint = f"restore it from a copy, or delete it and run with --resume {run_id}"
    promotion = documents.parse(PromotionRecord, found.content, store.uri(key), hint)
    if promotion.run_id != run_id:
        raise DataFormatError(f"{store.uri(key)} is the record of {promotion.run_id}, expected {run_id}; {hint}")
    return promotion


def read_promotions(store: Store, runs: Iterable[ListedRun]) -> Iterator[PromotionRecord]:
    """Read the records of runs, several at a time, in their order. Damaged records are left out.

    Raises:
        StoreError: The store cannot be read, which says nothing about its runs.
    """

    def read(run: ListedRun) -> PromotionRecord | None:
        with suppress(ChecksumError, DataFormatError):
            return read_promotion(store, run.run_id)
        return None

    found = in_parallel(read, [run for run in runs if PROMOTION in run.files])
    return (promotion for promotion in found if promotion is not None)


def lost_champion_files(store: Store, records: Iterable[PromotionRecord] | None = None) -> dict[str, str]:
    """Find the datasets that had a champion and have no champion file.

    Args:
        store: Store with the champion files.
        records: Promotion records in order of run id; None for all in the store.

    Returns:
        The last champion of each such dataset, according to the newest record, which may be that of another run.

    Raises:
        StoreError: The store cannot be listed.
    """
    records = read_promotions(store, list_runs(store)) if records is None else records
    champions = {each.dataset: each.champion_after for each in records if each.champion_after is not None}
    present = set(list_champions(store)) if champions else set()  # listed after the records, which are put later
    return {dataset: run_id for dataset, run_id in sorted(champions.items()) if dataset not in present}
