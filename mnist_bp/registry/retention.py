"""Which published runs stay, and which go: decided from one look at a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mnist_bp.errors import DataFormatError
from mnist_bp.layout import RUN_ID, RUNS
from mnist_bp.registry.catalog import CatalogedRun, ListedRun
from mnist_bp.registry.champion import Champion, list_champions, pointer_is_gone, read_champion
from mnist_bp.registry.promotion_record import lost_pointers, read_promotions
from mnist_bp.storage.interface import Store


@dataclass(frozen=True)
class RetentionPolicy:
    """What is to stay.

    Args:
        keep: How many of the newest complete runs of each dataset.
        keep_champions: How many of the runs that were champion last, the present one included; at least 1.
        grace: What is younger may be a living process's.
    """

    keep: int
    keep_champions: int = 3
    grace: timedelta = timedelta(hours=24)


@dataclass(frozen=True)
class Removal:
    """Something that goes.

    Args:
        run_id: Which run.
        uri: Its prefix, or its directory.
        why: For the reader.
        files: How many.
        size: Their size.
    """

    run_id: str
    uri: str
    why: str
    files: int
    size: int


@dataclass(frozen=True)
class RetentionPlan:
    """What goes and what stays of a store.

    Args:
        removals: In order of run id.
        kept: For each run that stays, why.
        pointers: The champions that were looked at, by dataset.
        datasets: Of every complete run that is intact.
        newest: Of those, the ones that stay as the newest of their dataset.
        damaged: Runs whose manifest cannot be believed.
    """

    removals: tuple[Removal, ...]
    kept: Mapping[str, str]
    pointers: Mapping[str, Champion]
    datasets: Mapping[str, str]
    newest: frozenset[str]
    damaged: frozenset[str]


def plan_retention(
    store: Store, runs: Sequence[CatalogedRun], rules: RetentionPolicy, before: datetime, in_work: Iterable[str]
) -> RetentionPlan:
    """Look at a store's champions, and decide.

    Args:
        store: Where runs were published.
        runs: Its catalog; what is published after it was read is younger than `before`.
        rules: What is to stay.
        before: What is younger than this stays, whatever it is.
        in_work: Runs that are being made.

    Raises:
        ChecksumError, DataFormatError: A champion's pointer is damaged or was lost, so nobody knows what it reaches.
        StoreError: The store cannot be read.
    """
    pointers = {dataset: read_champion(store, dataset) for dataset in list_champions(store)}
    runs = [run for run in runs if RUN_ID.fullmatch(run.listed.run_id)]
    datasets = {run.listed.run_id: run.dataset for run in runs if run.dataset is not None}
    _refuse_lost_pointers(store, [run.listed for run in runs if run.dataset not in pointers])
    newest = frozenset(_newest(datasets, rules.keep))
    protected = {
        **{run_id: f"one of the newest {rules.keep} of {datasets[run_id]}" for run_id in newest},
        **_choosable(store, datasets, pointers),
        **{run_id: why for pointer in pointers.values() for run_id, why in _reachable(pointer, rules.keep_champions)},
        **dict.fromkeys(in_work, "it is being made here"),
    }
    champions = {pointer.current.run_id for pointer in pointers.values() if pointer.current}
    begun = {run_id for pointer in pointers.values() for run_id in pointer.pending_deletion} - champions
    removals, kept = [], {}
    for run in runs:
        run_id = run.listed.run_id
        if stays := _why_it_stays(run, protected, begun, before):
            kept[run_id] = stays
        else:
            why = _why_it_goes(run, begun, rules.keep)
            uri = store.uri(RUNS + run_id)
            removals.append(Removal(run_id, uri, why, len(run.listed.files), run.listed.size))
    damaged = frozenset(run.listed.run_id for run in runs if run.damage or run.listed.lost_manifest)
    return RetentionPlan(tuple(removals), kept, pointers, datasets, newest, damaged)


def _refuse_lost_pointers(store: Store, runs: Iterable[ListedRun]) -> None:
    for dataset, run_id in lost_pointers(store, read_promotions(store, runs)).items():
        raise DataFormatError(pointer_is_gone(store, dataset, run_id))


def _why_it_stays(run: CatalogedRun, protected: Mapping[str, str], begun: set[str], before: datetime) -> str | None:
    if run.listed.newest >= before:
        return "it is younger than the grace"
    if run.listed.run_id in begun:
        return None
    if run.damage or run.listed.lost_manifest:
        return protected.get(run.listed.run_id, "its manifest is damaged or lost: see mnist-bp verify")
    return protected.get(run.listed.run_id)


def _why_it_goes(run: CatalogedRun, begun: set[str], keep: int) -> str:
    if run.listed.run_id in begun:
        return "its removal was begun before"
    return f"not one of the newest {keep} of {run.dataset}" if run.manifest else "it was never finished"


def _newest(datasets: Mapping[str, str], keep: int) -> Iterator[str]:
    for dataset in set(datasets.values()):
        yield from sorted((run_id for run_id, name in datasets.items() if name == dataset), reverse=True)[:keep]


def _choosable(store: Store, datasets: Mapping[str, str], pointers: Mapping[str, Champion]) -> dict[str, str]:
    """Return the runs of datasets that have no champion, where any could become it at any moment."""
    led = {dataset for dataset, pointer in pointers.items() if pointer.current}
    found = {run_id: dataset for run_id, dataset in datasets.items() if dataset not in led}
    if not found or not store.supports_conditional_writes():
        return {}
    return {run_id: f"{dataset} has no champion yet: see mnist-bp rollback" for run_id, dataset in found.items()}


def _reachable(pointer: Champion, keep_champions: int) -> Sequence[tuple[str, str]]:
    """Return the runs that were champion last, the present one first, each once."""
    distinct = list(dict.fromkeys(change.run_id for change in reversed(pointer.history)))
    words = [f"the champion of {pointer.dataset}"] + [f"a champion of {pointer.dataset} before"] * len(distinct)
    return list(zip(distinct[:keep_champions], words, strict=False))
