"""What was decided about runs: the record that is put beside each of them, once, and what all records tell together.

    <artifacts>/runs/<run id>/promotion.json    with a checksum; put after the manifest, which thus does not name it

A champion's pointer is moved before the record tells of it. So where a record tells of a champion and there is no
pointer, the pointer was lost.
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
    """Put what was decided beside the run, once.

    Returns:
        What is there now: the same, or what another process of the same run has put before.

    Raises:
        ConflictError: That has another outcome.
        ChecksumError, DataFormatError: That is damaged.
        StoreError: The store refused.
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
    """Read what was decided about a run; None if nothing was yet.

    Raises:
        ChecksumError, DataFormatError: It is damaged.
    """
    uri = store.uri(f"{RUNS}{run_id}/{PROMOTION}")
    found = store.read(f"{RUNS}{run_id}/{PROMOTION}")
    if found is None:
        return None
    remedy = f"restore it from a copy, or delete it and run with --resume {run_id}"
    promotion = documents.parse(PromotionRecord, found.content, uri, remedy)
    if promotion.run_id != run_id:
        raise DataFormatError(f"{uri} is the record of {promotion.run_id}, expected {run_id}; {remedy}")
    return promotion


def read_promotions(store: Store, runs: Iterable[ListedRun]) -> Iterator[PromotionRecord]:
    """Read what was decided about runs, several at a time, in their order; a record that is damaged tells nothing.

    Raises:
        StoreError: The store cannot be read, which says nothing about its runs.
    """

    def read(run: ListedRun) -> PromotionRecord | None:
        with suppress(ChecksumError, DataFormatError):
            return read_promotion(store, run.run_id)
        return None

    found = in_parallel(read, [run for run in runs if PROMOTION in run.files])
    return (promotion for promotion in found if promotion is not None)


def lost_pointers(store: Store, decided: Iterable[PromotionRecord] | None = None) -> dict[str, str]:
    """Find the datasets that have had a champion, and have no pointer any more.

    Args:
        store: Where the pointers are.
        decided: What was decided about runs, in their order; None for all that is recorded.

    Returns:
        For each such dataset, its last champion, as the newest record has it: that of another run names it as well.

    Raises:
        StoreError: The store cannot be listed.
    """
    decided = read_promotions(store, list_runs(store)) if decided is None else decided
    champions = {each.dataset: each.champion_after for each in decided if each.champion_after is not None}
    there = set(list_champions(store)) if champions else set()  # looked for after the records: it was there before
    return {dataset: run_id for dataset, run_id in sorted(champions.items()) if dataset not in there}
