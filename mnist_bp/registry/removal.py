"""The removal of published runs, in an order that is safe whatever other processes do; see `mnist_bp.registry.gc`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from mnist_bp.layout import MANIFEST, PROMOTION, run_key
from mnist_bp.registry.champion import append, attempts, read_log
from mnist_bp.registry.champion_state import ChampionLog
from mnist_bp.storage.interface import Store
from mnist_bp.storage.parallel import in_parallel


def mark_pending(
    store: Store, logs: Mapping[str, ChampionLog], datasets: Mapping[str, str], run_ids: Iterable[str], by: str
) -> bool:
    """Add complete runs to `pending_deletion`; return False if a log has a new entry since it was read.

    Args:
        store: Store with the logs.
        logs: The logs that the decision was based on, by dataset.
        datasets: Dataset of every complete run.
        run_ids: The runs that will be removed; those without a dataset, or without a log, need no mark.
        by: The command, for the reason.
    """
    added: dict[str, list[str]] = {}
    for run_id in run_ids:
        log = logs.get(datasets.get(run_id, ""))
        if log is not None and run_id not in log.pending_deletion:
            added.setdefault(log.dataset, []).append(run_id)
    if not added or not store.supports_conditional_writes():
        return True
    for dataset, marked in added.items():
        log = logs[dataset]
        reason = f"{by} will delete {', '.join(marked)}"
        if append(store, log.with_pending("delete", reason, (*log.pending_deletion, *marked))) is None:
            return False
    return True


def clear_pending(
    store: Store, logs: Mapping[str, ChampionLog], datasets: Mapping[str, str], run_ids: Iterable[str], by: str
) -> None:
    """Take runs without files out of `pending_deletion`; if other processes are faster, the next collection does it."""
    chosen = list(run_ids)
    for dataset, seen in logs.items():
        ours = {run_id for run_id in chosen if datasets.get(run_id) == dataset}
        removed = {
            run_id for run_id in ours.union(seen.pending_deletion) if not any(store.list_entries(run_key(run_id)))
        }
        if not removed or not store.supports_conditional_writes():
            continue
        for _ in attempts():
            log = read_log(store, dataset)
            rest = tuple(run_id for run_id in log.pending_deletion if run_id not in removed)
            reason = f"{by} has deleted {', '.join(sorted(removed))}"
            if rest == log.pending_deletion or append(store, log.with_pending("deleted", reason, rest)):
                break


def remove_run(store: Store, run_id: str, before: datetime) -> bool:
    """Delete a run's files, the last ones put first; return False if some are young: it is being published again.

    Args:
        store: Store with the run.
        run_id: Id of the run.
        before: Files that were put since then are young.
    """
    while files := {entry.key: entry for entry in store.list_entries(run_key(run_id))}:
        if max(entry.modified for entry in files.values()) >= before:
            return False
        for key in (run_key(run_id, PROMOTION), run_key(run_id, MANIFEST)):
            if files.pop(key, None):
                store.delete(key)
        for _ in in_parallel(store.delete, files):
            pass
    return True
