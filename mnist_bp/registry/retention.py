"""Retention: which published runs are kept and which are removed, decided from the state of a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mnist_bp.documents.champion import PromotionRecord
from mnist_bp.errors import DataFormatError
from mnist_bp.layout import PROMOTION, RUN_ID, RUNS, earliest_run_id
from mnist_bp.registry.catalog import CatalogedRun
from mnist_bp.registry.champion import read_history, read_log
from mnist_bp.registry.champion_state import ChampionLog
from mnist_bp.registry.log_entries import list_logs
from mnist_bp.registry.promotion_record import find_contradictions
from mnist_bp.storage.interface import Store

CLOCK_SKEW: Final = timedelta(days=1)
"""Largest difference between two clocks that is taken for normal."""


@dataclass(frozen=True)
class RetentionPolicy:
    """What is kept.

    Args:
        keep: Number of the newest complete runs of each dataset. A run whose id is dated more than `CLOCK_SKEW` after
            now was made under a wrong clock, and is not one of them.
        keep_champions: Number of the latest champions of each dataset, including the current one; at least 1.
        grace: Everything younger than this is kept, since a process may be using it.
    """

    keep: int
    keep_champions: int = 3
    grace: timedelta = timedelta(hours=24)


@dataclass(frozen=True)
class Removal:
    """A published run or a run directory that is removed.

    Args:
        run_id: The run.
        uri: Its prefix in the store, or its directory.
        why: The reason, for the user.
        files: Number of files.
        size: Their size in bytes.
    """

    run_id: str
    uri: str
    why: str
    files: int
    size: int


@dataclass(frozen=True)
class RetentionPlan:
    """The published runs that are removed, and those that are kept.

    Args:
        removals: In order of run id.
        kept: The reason for each run that is kept.
        logs: The logs that the plan is based on, by dataset.
        datasets: Dataset of every complete and intact run.
        newest: The runs that are kept as the newest of their dataset.
        damaged: Runs whose manifest is damaged or lost.
        undecided: Complete runs that are kept and have no promotion record: a resume decides about them.
    """

    removals: tuple[Removal, ...]
    kept: Mapping[str, str]
    logs: Mapping[str, ChampionLog]
    datasets: Mapping[str, str]
    newest: frozenset[str]
    damaged: frozenset[str]
    undecided: frozenset[str]


def plan_retention(
    store: Store,
    runs: Sequence[CatalogedRun],
    records: Sequence[PromotionRecord],
    policy: RetentionPolicy,
    now: datetime,
    in_progress: Iterable[str],
) -> RetentionPlan:
    """Read the logs of the champions in a store, and decide about its runs.

    Args:
        store: Store with the runs.
        runs: All runs of the store. Runs that were published after they were read are younger than the grace period.
        records: The promotion records of these runs, read before this call: the logs must have their entries.
        policy: What is kept.
        now: The time that ages are measured from.
        in_progress: Ids of the runs that are in progress on this machine.

    Raises:
        ChecksumError, DataFormatError: A log is damaged or lost, so its champions are unknown.
        StoreError: The store cannot be read.
    """
    logs = _read_logs(store, records)
    runs = [run for run in runs if RUN_ID.fullmatch(run.listed.run_id)]
    datasets = {run.listed.run_id: run.dataset for run in runs if run.dataset is not None}
    newest = frozenset(_newest(datasets, policy.keep, now))
    protected = {
        **{run_id: f"one of the newest {policy.keep} of {datasets[run_id]}" for run_id in newest},
        **_possible_champions(datasets, logs),
        **{run_id: why for each in logs.values() for run_id, why in _latest(each, policy.keep_champions)},
        **_aliased(logs.values()),
        **dict.fromkeys(in_progress, "it is in progress on this machine"),
    }
    named = {run_id for log in logs.values() for run_id in log.named}
    started = {run_id for log in logs.values() for run_id in log.pending_deletion} - named
    removals, kept = [], {}
    for run in runs:
        run_id = run.listed.run_id
        if why := _reason_to_keep(run, protected, started, policy, now):
            kept[run_id] = why
        else:
            why = _reason_to_remove(run, started, policy.keep)
            removals.append(Removal(run_id, store.uri(RUNS + run_id), why, len(run.listed.files), run.listed.size))
    damaged = frozenset(run.listed.run_id for run in runs if run.damage or run.listed.lost_manifest)
    undecided = frozenset(
        run.listed.run_id
        for run in runs
        if run.manifest and PROMOTION not in run.listed.files and run.listed.run_id in kept
    )
    return RetentionPlan(tuple(removals), kept, logs, datasets, newest, damaged, undecided)


def _read_logs(store: Store, records: Sequence[PromotionRecord]) -> dict[str, ChampionLog]:
    """Read every log as a whole, and refuse one that lacks an entry which a promotion record names."""
    named = {record.dataset for record in records if record.log_entry is not None}
    logs = {}
    for dataset in sorted(named.union(list_logs(store))):
        log = logs[dataset] = read_log(store, dataset)
        for problem in find_contradictions(store, log, read_history(store, log), records):
            raise DataFormatError(problem)
    return logs


def _newest(datasets: Mapping[str, str], keep: int, now: datetime) -> Iterator[str]:
    dated = [run_id for run_id in datasets if run_id < earliest_run_id(now + CLOCK_SKEW)]
    for dataset in set(datasets.values()):
        yield from sorted((run_id for run_id in dated if datasets[run_id] == dataset), reverse=True)[:keep]


def _possible_champions(datasets: Mapping[str, str], logs: Mapping[str, ChampionLog]) -> Mapping[str, str]:
    """Return the runs of datasets that have no champion, since any of them may become it at any moment."""
    with_champion = {dataset for dataset, log in logs.items() if log.current}
    return {
        run_id: f"{dataset} has no champion yet: see mnist-bp rollback"
        for run_id, dataset in datasets.items()
        if dataset not in with_champion
    }


def _latest(log: ChampionLog, keep_champions: int) -> Sequence[tuple[str, str]]:
    """Return the latest champions of a dataset, the current one first, each once."""
    latest = list(dict.fromkeys(change.run_id for change in reversed(log.champions)))
    reasons = [f"the champion of {log.dataset}"] + [f"a former champion of {log.dataset}"] * len(latest)
    return list(zip(latest[:keep_champions], reasons, strict=False))


def _aliased(logs: Iterable[ChampionLog]) -> Mapping[str, str]:
    """Return the runs that have an alias."""
    return {run_id: f"the alias {alias} of {log.dataset}" for log in logs for alias, run_id in log.aliases.items()}


def _reason_to_keep(
    run: CatalogedRun, protected: Mapping[str, str], started: set[str], policy: RetentionPolicy, now: datetime
) -> str | None:
    if run.listed.newest > now + CLOCK_SKEW:
        return f"its files are dated in the future, {run.listed.newest:%Y-%m-%d}: check the clocks"
    if run.listed.newest >= now - policy.grace:
        return "it is younger than the grace period"
    if run.listed.run_id in started:
        return None
    if run.damage or run.listed.lost_manifest:
        return "its manifest is damaged or lost: see mnist-bp verify"
    return protected.get(run.listed.run_id)


def _reason_to_remove(run: CatalogedRun, started: set[str], keep: int) -> str:
    if run.listed.run_id in started:
        return "its removal was started before"
    return f"not one of the newest {keep} of {run.dataset}" if run.manifest else "it was never finished"
