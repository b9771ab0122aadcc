"""Retention: which published runs are kept and which are removed, decided from the state of a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mnist_bp.errors import DataFormatError
from mnist_bp.layout import RUN_ID, RUNS
from mnist_bp.registry.catalog import CatalogedRun, ListedRun
from mnist_bp.registry.champion import Champion, describe_lost_champion_file, list_champions, read_champion
from mnist_bp.registry.promotion_record import lost_champion_files, read_promotions
from mnist_bp.storage.interface import Store


@dataclass(frozen=True)
class RetentionPolicy:
    """What is kept.

    Args:
        keep: Number of the newest complete runs of each dataset.
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
        champions: The champions that the plan is based on, by dataset.
        datasets: Dataset of every complete and intact run.
        newest: The runs that are kept as the newest of their dataset.
        damaged: Runs whose manifest is damaged or lost.
    """

    removals: tuple[Removal, ...]
    kept: Mapping[str, str]
    champions: Mapping[str, Champion]
    datasets: Mapping[str, str]
    newest: frozenset[str]
    damaged: frozenset[str]


def plan_retention(
    store: Store, runs: Sequence[CatalogedRun], policy: RetentionPolicy, before: datetime, in_progress: Iterable[str]
) -> RetentionPlan:
    """Read the champions of a store, and decide about its runs.

    Args:
        store: Store with the runs.
        runs: All runs of the store. Runs that were published after they were read are younger than `before`.
        policy: What is kept.
        before: Everything younger than this is kept.
        in_progress: Ids of the runs that are in progress on this machine.

    Raises:
        ChecksumError, DataFormatError: A champion file is damaged or lost, so its champions are unknown.
        StoreError: The store cannot be read.
    """
    champions = {dataset: read_champion(store, dataset) for dataset in list_champions(store)}
    runs = [run for run in runs if RUN_ID.fullmatch(run.listed.run_id)]
    datasets = {run.listed.run_id: run.dataset for run in runs if run.dataset is not None}
    _refuse_lost_files(store, [run.listed for run in runs if run.dataset not in champions])
    newest = frozenset(_newest(datasets, policy.keep))
    protected = {
        **{run_id: f"one of the newest {policy.keep} of {datasets[run_id]}" for run_id in newest},
        **_possible_champions(store, datasets, champions),
        **{run_id: why for each in champions.values() for run_id, why in _latest(each, policy.keep_champions)},
        **dict.fromkeys(in_progress, "it is in progress on this machine"),
    }
    current = {champion.current.run_id for champion in champions.values() if champion.current}
    started = {run_id for champion in champions.values() for run_id in champion.pending_deletion} - current
    removals, kept = [], {}
    for run in runs:
        run_id = run.listed.run_id
        if why := _reason_to_keep(run, protected, started, before):
            kept[run_id] = why
        else:
            why = _reason_to_remove(run, started, policy.keep)
            removals.append(Removal(run_id, store.uri(RUNS + run_id), why, len(run.listed.files), run.listed.size))
    damaged = frozenset(run.listed.run_id for run in runs if run.damage or run.listed.lost_manifest)
    return RetentionPlan(tuple(removals), kept, champions, datasets, newest, damaged)


def _refuse_lost_files(store: Store, runs: Iterable[ListedRun]) -> None:
    for dataset, run_id in lost_champion_files(store, read_promotions(store, runs)).items():
        raise DataFormatError(describe_lost_champion_file(store, dataset, run_id))


def _newest(datasets: Mapping[str, str], keep: int) -> Iterator[str]:
    for dataset in set(datasets.values()):
        yield from sorted((run_id for run_id, name in datasets.items() if name == dataset), reverse=True)[:keep]


def _possible_champions(
    store: Store, datasets: Mapping[str, str], champions: Mapping[str, Champion]
) -> Mapping[str, str]:
    """Return the runs of datasets that have no champion, since any of them may become it at any moment."""
    with_champion = {dataset for dataset, champion in champions.items() if champion.current}
    found = {run_id: dataset for run_id, dataset in datasets.items() if dataset not in with_champion}
    if not found or not store.supports_conditional_writes():
        return {}
    return {run_id: f"{dataset} has no champion yet: see mnist-bp rollback" for run_id, dataset in found.items()}


def _latest(champion: Champion, keep_champions: int) -> Sequence[tuple[str, str]]:
    """Return the latest champions of a dataset, the current one first, each once."""
    latest = list(dict.fromkeys(change.run_id for change in reversed(champion.history)))
    reasons = [f"the champion of {champion.dataset}"] + [f"a former champion of {champion.dataset}"] * len(latest)
    return list(zip(latest[:keep_champions], reasons, strict=False))


def _reason_to_keep(run: CatalogedRun, protected: Mapping[str, str], started: set[str], before: datetime) -> str | None:
    if run.listed.newest >= before:
        return "it is younger than the grace period"
    if run.listed.run_id in started:
        return None
    if run.damage or run.listed.lost_manifest:
        return protected.get(run.listed.run_id, "its manifest is damaged or lost: see mnist-bp verify")
    return protected.get(run.listed.run_id)


def _reason_to_remove(run: CatalogedRun, started: set[str], keep: int) -> str:
    if run.listed.run_id in started:
        return "its removal was started before"
    return f"not one of the newest {keep} of {run.dataset}" if run.manifest else "it was never finished"
