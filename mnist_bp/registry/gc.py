"""Garbage collection: remove old, unreferenced runs, and files that dead processes left.

Kept are the newest complete runs of every dataset, the champions and their latest predecessors, the runs that have an
alias, everything younger than the grace period, runs in progress on this machine, and runs with a damaged manifest,
about which nothing is known. All other runs are removed, complete or not; see `mnist_bp.registry.retention`. The
directory on this machine of a run that is kept and not yet decided is kept, too, since a resume needs it for the
decision.

Why no referenced run is removed, even if runs are promoted or rolled back, or aliases moved, at the same time: a run
can become referenced only by an entry of its dataset's log, and the next entry belongs to one process. Before the first
file of a run is deleted, an entry adds the run to `pending_deletion`. It is the entry after the one that the decision
was based on, so the run was unreferenced at that moment, and no later entry makes it champion or gives it an alias,
since none names a run in `pending_deletion`. If another process adds its entry first, everything is planned again.
After the last file is deleted, a further entry takes the run out of `pending_deletion`; a promotion, rollback or alias
that did not read the log in between finds no manifest, which it reads again after the log and before its entry.

A run found in `pending_deletion` is being removed by another collection, which may have died. Its removal is finished
whatever the policy says, even if more runs must be kept now: some of its files may be missing already, and a run taken
out of `pending_deletion` could be promoted while another process deletes it. A champion is never removed,
nor a run with an alias.

Any complete run of a dataset without a champion may be about to become champion, so all of them are kept until there is
one. If a log lacks an entry that a promotion record names, nothing is collected at all. If the store ignores
conditional writes, an entry would not bind other processes, and could replace theirs, so none is written. There, a
rollback is refused, and an unsafe promotion promotes a run that was just published, which the grace period protects.

The files of a run are deleted in the reverse order of publication: first the promotion record, then the manifest, then
the others. So no reader finds a manifest that lists a missing file, and a record without a manifest shows that the
manifest was lost. A collection that is killed leaves a run without a manifest, or one in `pending_deletion`; the next
collection finishes either. A run's directory on this machine is removed before the published run, under the lock of
the run, so no process on this machine publishes a run that is being removed. A process on another machine that
publishes the run again is noticed only by its young files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mnist_bp.errors import StoreError
from mnist_bp.registry.catalog import catalog_runs
from mnist_bp.registry.champion import attempts
from mnist_bp.registry.promotion_record import read_promotions
from mnist_bp.registry.removal import clear_pending, mark_pending, remove_run
from mnist_bp.registry.retention import Removal, RetentionPlan, RetentionPolicy, plan_retention
from mnist_bp.storage.interface import Store
from mnist_bp.storage.local import LocalStore
from mnist_bp.training.workspace import RunDirectory, list_directories, remove_directory

_GC: Final = "mnist-bp gc"


@dataclass(frozen=True)
class Plan:
    """What a collection would remove, or has removed.

    Args:
        runs: Published runs.
        directories: Run directories on this machine.
        leftovers: Temporary files.
        kept: The reason for each published run that is kept.
        in_use: Runs that are kept because a process has started to use them since the plan was made.
    """

    runs: tuple[Removal, ...]
    directories: tuple[Removal, ...]
    leftovers: tuple[str, ...]
    kept: Mapping[str, str]
    in_use: tuple[str, ...] = ()


def plan(store: Store, data_dir: Path, policy: RetentionPolicy, *, now: datetime | None = None) -> Plan:
    """Return what `collect` would remove, without a change.

    Args:
        store: Store with the published runs.
        data_dir: Directory with the run directories.
        policy: What is kept.
        now: The time that ages are measured from; by default the present.

    Raises:
        ChecksumError, DataFormatError: The log of a champion is damaged or lost, so its champions are unknown.
        StoreError: The store or the data directory cannot be read.
    """
    now = now or datetime.now(UTC)
    before = now - policy.grace
    directories, runs = list_directories(data_dir), catalog_runs(store)
    records = list(read_promotions(store, [run.listed for run in runs]))
    retention = plan_retention(store, runs, records, policy, now, _in_progress(directories, before))
    removals = tuple(removal for _, removal in _directory_removals(directories, retention, before))
    return Plan(retention.removals, removals, _leftovers(store, data_dir, before, dry_run=True), retention.kept)


def collect(store: Store, data_dir: Path, policy: RetentionPolicy, *, now: datetime | None = None) -> Plan:
    """Remove what `plan` returns, planned again each time a champion changes in the meantime.

    Args:
        store: See `plan`.
        data_dir: See `plan`.
        policy: See `plan`.
        now: See `plan`.

    Returns:
        What was removed.

    Raises:
        ChecksumError, DataFormatError, StoreError: See `plan`; the next collection continues where this one stopped.
    """
    now = now or datetime.now(UTC)
    before = now - policy.grace
    directories = list_directories(data_dir)
    runs = catalog_runs(store)  # once: manifests do not change, and a shorter attempt is overtaken less often
    records = list(read_promotions(store, [run.listed for run in runs]))
    for _ in attempts():
        retention = plan_retention(store, runs, records, policy, now, _in_progress(directories, before))
        if mark_pending(store, retention.logs, retention.datasets, _run_ids(retention), _GC):
            break
    else:
        raise StoreError("champions kept changing while the removals were decided; nothing was removed, run gc again")
    leftovers = _leftovers(store, data_dir, before, dry_run=False)
    removals = _directory_removals(directories, retention, before)
    busy = {removal.run_id for directory, removal in removals if not remove_directory(directory, before)}
    removed = {
        removal.run_id
        for removal in retention.removals
        if removal.run_id not in busy and remove_run(store, removal.run_id, before)
    }
    clear_pending(store, retention.logs, retention.datasets, _run_ids(retention), _GC)
    return Plan(
        runs=tuple(removal for removal in retention.removals if removal.run_id in removed),
        directories=tuple(removal for _, removal in removals if removal.run_id not in busy),
        leftovers=leftovers,
        kept=retention.kept,
        in_use=tuple(sorted(busy.union(removal.run_id for removal in retention.removals) - removed)),
    )


def _run_ids(retention: RetentionPlan) -> list[str]:
    return [removal.run_id for removal in retention.removals]


def _directory_removals(
    directories: Iterable[RunDirectory], retention: RetentionPlan, before: datetime
) -> list[tuple[RunDirectory, Removal]]:
    """Choose run directories to remove: a decided run does not need one, another can be resumed for a while."""
    chosen = []
    needed = retention.newest | retention.damaged | retention.undecided
    for each in directories:
        if each.in_progress or each.newest >= before or each.run_id in needed:
            continue
        published = each.run_id in retention.datasets
        why = "the run is published" if published else "older than the grace period, and not published to this store"
        chosen.append((each, Removal(each.run_id, str(each.path), why, each.files, each.size)))
    return chosen


def _in_progress(directories: Iterable[RunDirectory], before: datetime) -> list[str]:
    return [each.run_id for each in directories if each.in_progress or each.newest >= before]


def _leftovers(store: Store, data_dir: Path, before: datetime, *, dry_run: bool) -> tuple[str, ...]:
    stores: tuple[Store, ...] = (store, LocalStore(data_dir))
    return tuple(uri for each in stores for uri in each.remove_leftovers(before, dry_run=dry_run))
