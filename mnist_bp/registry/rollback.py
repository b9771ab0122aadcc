"""Rollback: make an earlier champion, or any other run of the dataset, champion by hand, without the gate.

Every file of the run is checked before the champion changes. The change is added to the champion's log like a
promotion, and nothing is removed from the log, so a rollback can be rolled back.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from mnist_bp.documents.champion import MAX_SEQUENCE, Action, LogEntry
from mnist_bp.errors import ChecksumError, ConfigError, DataFormatError, StoreError
from mnist_bp.layout import CHAMPION, run_key
from mnist_bp.registry.catalog import list_runs, read_manifest
from mnist_bp.registry.champion import append, attempts, read_log
from mnist_bp.registry.champion_state import ChampionLog
from mnist_bp.registry.comparison import PublishedModel, read_published_model
from mnist_bp.registry.log_entries import (
    check_conditional_writes,
    entry_key,
    list_logs,
    list_sequences,
    log_prefix,
    read_entry,
)
from mnist_bp.registry.promotion_record import is_log_intact, read_existing_log, read_promotions
from mnist_bp.storage.interface import Store


@dataclass(frozen=True)
class Rollback:
    """The result of a rollback.

    Args:
        dataset: Name of the dataset.
        champion_before, champion_after: Run ids; equal if the run already was champion, and nothing was changed.
    """

    dataset: str
    champion_before: str | None
    champion_after: str


def roll_back(
    store: Store,
    run_id: str | None = None,
    dataset: str | None = None,
    *,
    allow_unsafe: bool = False,
    restart_log: bool = False,
) -> Rollback:
    """Make another run the champion.

    Args:
        store: Store with the champion and the run.
        run_id: The new champion; by default the run that was champion before the current one.
        dataset: The dataset; by default that of the run, or the only one with a champion.
        allow_unsafe: Whether to change the champion even if the store ignores conditional writes.
        restart_log: Whether the log starts again with this change, because it is damaged or lost.

    Raises:
        ConfigError: The dataset is ambiguous, or the run is of another dataset.
        ChecksumError, DataFormatError: The log or a file of the run is damaged; the champion stays.
        StoreError: The run does not exist, no earlier champion exists, the store ignores conditional writes, or another
            process changed the champion in the meantime.
    """
    if restart_log and run_id is None:
        raise ConfigError("--restart-log: expected the run that becomes champion; see mnist-bp runs")
    target = read_published_model(store, run_id) if run_id is not None else None
    dataset = dataset or (target.dataset if target else _only_dataset(store))
    if target is not None and target.dataset != dataset:
        raise ConfigError(f"{target.run_id} is a run of {target.dataset}, expected one of {dataset}; see mnist-bp runs")
    log = _read_broken_log(store, dataset) if restart_log else read_existing_log(store, dataset)
    target = target or _previous_champion(store, log)
    before = log.current.run_id if log.current else None
    if before != target.run_id:
        check_conditional_writes(store, dataset, allow_unsafe=allow_unsafe)
        _check_files(store, target)
        _change_champion(store, log, target, restart_log=restart_log)
    return Rollback(dataset, before, target.run_id)


def _read_broken_log(store: Store, dataset: str) -> ChampionLog:
    """Return a log that was damaged or lost, such that its next entry restarts it.

    No number is used twice, so that the promotion record of a lost entry never fits another one. Aliases and pending
    deletions are those of the newest entry that can be read.

    Raises:
        ConfigError: The log is intact.
        DataFormatError: The log has no free number.
    """
    records = list(read_promotions(store, list_runs(store)))
    if is_log_intact(store, dataset, records):
        raise ConfigError(f"{store.uri(log_prefix(dataset))} is intact: roll back without --restart-log")
    sequences = list_sequences(store, dataset)
    readable = _newest_readable(store, dataset, sequences)
    named = [each.log_entry.sequence for each in records if each.dataset == dataset and each.log_entry is not None]
    last = max([-1, *named, *sequences])
    if last >= MAX_SEQUENCE:
        raise DataFormatError(
            f"{store.uri(entry_key(dataset, last))} has the last number that an entry can have: delete it"
        )
    log = ChampionLog(dataset, last, start=last + 1)
    if readable is None:
        return log
    return replace(log, pending_deletion=readable.pending_deletion, aliases=readable.aliases)


def _newest_readable(store: Store, dataset: str, sequences: list[int]) -> LogEntry | None:
    for sequence in reversed(sequences):
        with suppress(ChecksumError, DataFormatError):
            return read_entry(store, dataset, sequence)[0]
    return None


def _change_champion(store: Store, log: ChampionLog, target: PublishedModel, *, restart_log: bool) -> None:
    """Change the champion, as long as it is the one that the user wanted to replace."""
    seen, dataset = log.current, log.dataset
    reason = "chosen by hand, to restart the log" if restart_log else "chosen by hand"
    reason += f", in place of {seen.run_id if seen else 'none'}"
    for _ in attempts():
        log.check_not_pending(target.run_id)
        read_manifest(store, target.run_id, target.manifest_sha256)  # a collection may have begun and ended since
        action: Action = "restart" if restart_log else "rollback"
        if append(store, log.with_champion(action, target.run_id, target.manifest_sha256, reason)):
            return
        log = read_log(store, dataset)
        if restart_log or log.current != seen:
            break
    raise StoreError(
        f"{store.uri(log_prefix(dataset))}: another process changed it in the meantime, and the champion is "
        f"{log.current.run_id if log.current else 'none'}; see mnist-bp champion, and decide again"
    )


def _check_files(store: Store, run: PublishedModel) -> None:
    """Read every file of a run and compare it with the digest in the manifest.

    Raises:
        ChecksumError: A file is damaged.
        StoreError: A file is missing.
    """
    for name, file in run.manifest.files.items():
        store.get(run_key(run.run_id, name), file.sha256, file.size)


def _only_dataset(store: Store) -> str:
    known = list_logs(store)
    if len(known) == 1:
        return known[0]
    what = f"there are champions of {', '.join(known)}" if known else f"there is no champion in {store.uri(CHAMPION)}"
    raise ConfigError(f"{what}: name one with --dataset, or name the new champion")


def _previous_champion(store: Store, log: ChampionLog) -> PublishedModel:
    """Find the run that was champion before the current one."""
    current = log.current
    if current is None:
        raise StoreError(f"{store.uri(log_prefix(log.dataset))}: {log.dataset} has no champion yet")
    earlier = [change for change in log.champions if change.run_id != current.run_id]
    if not earlier:
        raise StoreError(
            f"{current.run_id} is the first champion of {log.dataset}, so no earlier one exists; name a run, "
            "see mnist-bp runs"
        )
    return read_published_model(store, earlier[-1].run_id, earlier[-1].manifest_sha256)
