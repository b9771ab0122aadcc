"""Collect garbage: remove published runs that nobody will ask for again, and what processes that died have left.

What stays: the newest complete runs of every dataset; every champion, and the last runs of its history; whatever is
younger than the grace; a run that is being made here; a run whose manifest is damaged, since what it is cannot be told.
All else goes, complete or not.

Why no reachable run goes, whoever promotes or rolls back meanwhile. A run can become reachable by a change of its
dataset's pointer alone, and every change is a compare-and-swap. Before its first file goes, a run is entered into
pending_deletion by the same compare-and-swap, against the pointer on which the decision rested. If that is won, the run
was unreachable at that moment, and no later change names it, since none names a run in pending_deletion. If it is lost,
all is planned again. Once nothing is left of the run, it is taken out, and its id means nothing any more.

A run found in pending_deletion was given up by a collection that may have died, or may be at work this moment. So its
removal is finished whatever the rules say, even where more of the history is to be kept by now: part of it may be gone,
and whoever took it out of pending_deletion could have it promoted while another removes it. A champion is never
removed; that one is in pending_deletion cannot come about.

A dataset without a champion has no pointer to fence with. Its pointer may have been deleted to repair it, and any
complete run be about to be chosen: so they all stay until there is a champion; where records tell that there was one,
nothing is collected at all. Where the store ignores conditions, pending_deletion would bind nobody, and writing it
could undo another's change: it is not written. Rollback is refused there, and an unsafe promotion promotes a run that
it has just published, which the grace protects.

Within a run, what was put last goes first: the record of its promotion, then the manifest, so that no reader finds one
that names a missing file, and a record without a manifest tells that the manifest was lost. A collection that is killed
leaves a run without a manifest, or one in pending_deletion; the next one finishes either. A run's directory on this
machine goes before the run does, under the lock of whoever works on it, so nobody here publishes what is being
collected. A machine elsewhere that publishes a run anew, more than the grace after its last file was put, is noticed by
young files alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mnist_bp.errors import StoreError
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS
from mnist_bp.registry.catalog import catalog_runs
from mnist_bp.registry.champion import read_champion, rounds, swap_champion
from mnist_bp.registry.retention import Removal, RetentionPlan, RetentionPolicy, plan_retention
from mnist_bp.storage.interface import Store
from mnist_bp.storage.local import LocalStore
from mnist_bp.storage.parallel import in_parallel
from mnist_bp.training.workspace import RunDirectory, list_directories, remove_directory


@dataclass(frozen=True)
class Plan:
    """What a collection would do, or has done.

    Args:
        runs: Published runs that go.
        directories: Directories, on this machine, of runs that were made here.
        leftovers: URIs of temporary files of writers that died.
        kept: For each published run that stays, why.
        in_use: Runs that were to go, and stay since somebody has begun to work on them.
    """

    runs: tuple[Removal, ...]
    directories: tuple[Removal, ...]
    leftovers: tuple[str, ...]
    kept: Mapping[str, str]
    in_use: tuple[str, ...] = ()


def plan(store: Store, data_dir: Path, rules: RetentionPolicy, *, now: datetime | None = None) -> Plan:
    """Tell what `collect` would remove, and why; nothing is changed.

    Args:
        store: Where runs were published.
        data_dir: Where runs were made.
        rules: What is to stay.
        now: What ages are measured against.

    Raises:
        ChecksumError, DataFormatError: A champion's pointer is damaged or was lost, so nobody knows what it reaches.
        StoreError: The store or the data directory cannot be read.
    """
    before = (now or datetime.now(UTC)) - rules.grace
    directories = list_directories(data_dir)
    verdict = plan_retention(store, catalog_runs(store), rules, before, _in_work(directories, before))
    doomed = tuple(removal for _, removal in _removals(directories, verdict, before))
    return Plan(verdict.removals, doomed, _leftovers(store, data_dir, before, dry_run=True), verdict.kept)


def collect(store: Store, data_dir: Path, rules: RetentionPolicy, *, now: datetime | None = None) -> Plan:
    """Remove what `plan` tells, decided anew as often as a champion changes meanwhile.

    Args:
        store: See `plan`.
        data_dir: See `plan`.
        rules: See `plan`.
        now: See `plan`.

    Returns:
        What was removed.

    Raises:
        ChecksumError, DataFormatError, StoreError: See `plan`; the next collection goes on where this one broke off.
    """
    before = (now or datetime.now(UTC)) - rules.grace
    directories = list_directories(data_dir)
    runs = catalog_runs(store)  # once: manifests do not change, and the shorter a round, the fewer swaps are lost
    for _ in rounds():
        verdict = plan_retention(store, runs, rules, before, _in_work(directories, before))
        if _fence(store, verdict):
            break
    else:
        raise StoreError("champions kept changing while it was decided what goes; nothing was removed, run gc again")
    leftovers = _leftovers(store, data_dir, before, dry_run=False)
    doomed = _removals(directories, verdict, before)
    busy = {removal.run_id for at, removal in doomed if not remove_directory(at, before)}
    gone = {
        removal.run_id
        for removal in verdict.removals
        if removal.run_id not in busy and _remove_run(store, removal.run_id, before)
    }
    _lift_fences(store, verdict)
    return Plan(
        runs=tuple(removal for removal in verdict.removals if removal.run_id in gone),
        directories=tuple(removal for _, removal in doomed if removal.run_id not in busy),
        leftovers=leftovers,
        kept=verdict.kept,
        in_use=tuple(sorted(busy.union(removal.run_id for removal in verdict.removals) - gone)),
    )


def _fence(store: Store, verdict: RetentionPlan) -> bool:
    """Enter complete runs into `pending_deletion`; False where a champion has changed since it was looked at."""
    doomed: dict[str, list[str]] = {}
    for removal in verdict.removals:
        pointer = verdict.pointers.get(verdict.datasets.get(removal.run_id, ""))
        if pointer is not None and removal.run_id not in pointer.pending_deletion:
            doomed.setdefault(pointer.dataset, []).append(removal.run_id)
    if not doomed or not store.supports_conditional_writes():
        return True
    pointers = [(verdict.pointers[dataset], run_ids) for dataset, run_ids in doomed.items()]
    return all(
        swap_champion(store, replace(at, pending_deletion=(*at.pending_deletion, *run_ids))) for at, run_ids in pointers
    )


def _lift_fences(store: Store, verdict: RetentionPlan) -> None:
    """Take runs of which nothing is left out of pending_deletion; where others win, the next collection does."""
    for dataset, seen in verdict.pointers.items():
        ours = {removal.run_id for removal in verdict.removals if verdict.datasets.get(removal.run_id) == dataset}
        gone = {
            run_id for run_id in ours.union(seen.pending_deletion) if not any(store.list_entries(f"{RUNS}{run_id}/"))
        }
        if not gone or not store.supports_conditional_writes():
            continue
        for _ in rounds():
            pointer = read_champion(store, dataset)
            rest = tuple(run_id for run_id in pointer.pending_deletion if run_id not in gone)
            if rest == pointer.pending_deletion or swap_champion(store, replace(pointer, pending_deletion=rest)):
                break


def _remove_run(store: Store, run_id: str, before: datetime) -> bool:
    """Delete a run's files, what was put last first; False where some are young: it is published again."""
    while files := {entry.key: entry for entry in store.list_entries(f"{RUNS}{run_id}/")}:
        if max(entry.modified for entry in files.values()) >= before:
            return False
        for key in (f"{RUNS}{run_id}/{PROMOTION}", f"{RUNS}{run_id}/{MANIFEST}"):
            if files.pop(key, None):
                store.delete(key)
        for _ in in_parallel(store.delete, files):
            pass
    return True


def _removals(
    directories: Iterable[RunDirectory], verdict: RetentionPlan, before: datetime
) -> list[tuple[RunDirectory, Removal]]:
    """Choose the directories that go. What is published needs none; what is not can be resumed until it is too old."""
    chosen = []
    for at in directories:
        if at.in_progress or at.newest >= before or at.run_id in verdict.newest | verdict.damaged:
            continue
        why = "the run is published" if at.run_id in verdict.datasets else "older than the grace, and not published"
        chosen.append((at, Removal(at.run_id, str(at.path), why, at.files, at.size)))
    return chosen


def _in_work(directories: Iterable[RunDirectory], before: datetime) -> list[str]:
    return [at.run_id for at in directories if at.in_progress or at.newest >= before]


def _leftovers(store: Store, data_dir: Path, before: datetime, *, dry_run: bool) -> tuple[str, ...]:
    places: tuple[Store, ...] = (store, LocalStore(data_dir))
    return tuple(uri for place in places for uri in place.remove_leftovers(before, dry_run=dry_run))
