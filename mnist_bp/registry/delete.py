"""The deletion of one run by hand: its published files, and its directory on this machine.

A run that has a name, as champion or by an alias, is not deleted, nor one in progress. The removal is that of
`mnist_bp.registry.gc`, with the same entries in the log of the dataset: a run that is promoted or given an alias at the
same time is either kept as a whole, or the promotion or the alias is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mnist_bp.documents.manifest import Manifest
from mnist_bp.errors import StoreError
from mnist_bp.layout import PROMOTION, RUN_ID, RUNS
from mnist_bp.registry.catalog import CatalogedRun, ListedRun, catalog_runs, list_runs, unknown_run
from mnist_bp.registry.champion import attempts
from mnist_bp.registry.champion_state import ChampionLog
from mnist_bp.registry.log_entries import list_logs
from mnist_bp.registry.promotion_record import read_existing_log
from mnist_bp.registry.removal import clear_pending, mark_pending, remove_run
from mnist_bp.registry.retention import RetentionPolicy
from mnist_bp.storage.interface import Store
from mnist_bp.training.interrupted import find_interrupted_run
from mnist_bp.training.workspace import RunDirectory, find_directory, remove_directory

_DELETE: Final = "mnist-bp delete"
_ANY_AGE: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Deletion:
    """What the deletion of a run removes.

    Args:
        run_id: The run.
        uri: Its prefix in the store; None if it is not published there.
        manifest: Its manifest; None if it is missing or damaged.
        files: Number of its published files.
        size: Their size in bytes.
        directory: Its directory on this machine; None if it has none.
        logs: The logs that were read, by dataset.
    """

    run_id: str
    uri: str | None
    manifest: Manifest | None
    files: int
    size: int
    directory: RunDirectory | None
    logs: Mapping[str, ChampionLog]

    @property
    def former_champion(self) -> bool:
        """Whether a rollback without a run would restore it."""
        for log in self.logs.values():
            current = log.current
            earlier = [each.run_id for each in log.champions if current is None or each.run_id != current.run_id]
            if self.run_id in earlier[-1:]:
                return True
        return False


def plan_deletion(store: Store, artifacts: str, data_dir: Path, run_id: str, now: datetime | None = None) -> Deletion:
    """Return what `delete_run` would remove, without a change.

    Args:
        store: Store with the run.
        artifacts: Absolute address of the store.
        data_dir: Directory with the run directories.
        run_id: The run.
        now: The time that ages are measured from; by default the present.

    Raises:
        StoreError: The run does not exist, is a champion, has an alias, is in progress here or perhaps on another
            machine, or was started for another store.
        ChecksumError, DataFormatError: A log is damaged or lost, so it is unknown which runs it names.
    """
    directory = find_directory(data_dir, run_id)
    listed = next((run for run in list_runs(store, run_id) if run.run_id == run_id), None)
    if listed is None and directory is None:
        raise unknown_run(store, run_id)
    if directory is not None:
        _check_directory(directory, data_dir, artifacts, published=listed is not None)
    elif listed is not None:
        _check_finished(store, listed, now or datetime.now(UTC))
    run = catalog_runs(store, [listed])[0] if listed else CatalogedRun(ListedRun(run_id), None)
    logs = _read_logs(store, run_id, run.dataset)
    uri = store.uri(RUNS + run_id) if listed else None
    return Deletion(run_id, uri, run.manifest, len(run.listed.files), run.listed.size, directory, logs)


def delete_run(store: Store, artifacts: str, data_dir: Path, run_id: str) -> Deletion:
    """Delete a run.

    Args:
        store: See `plan_deletion`.
        artifacts: See `plan_deletion`.
        data_dir: See `plan_deletion`.
        run_id: See `plan_deletion`.

    Returns:
        What was removed.

    Raises:
        ChecksumError, DataFormatError, StoreError: See `plan_deletion`; or the logs kept changing, or a file could not
            be deleted: delete the run again.
    """
    done = plan_deletion(store, artifacts, data_dir, run_id)
    if done.directory is not None and not remove_directory(done.directory, _ANY_AGE):
        raise _in_progress(done.directory.path)
    if done.uri is None:
        return done
    dataset, logs = done.manifest.dataset.name if done.manifest else None, done.logs
    datasets = {run_id: dataset} if dataset else {}  # without an intact manifest, it cannot become champion
    for _ in attempts():
        if mark_pending(store, logs, datasets, [run_id], _DELETE):
            break
        logs = _read_logs(store, run_id, dataset)
    else:
        raise StoreError(f"{done.uri}: the log of the champion kept changing, and the run was kept; delete it again")
    remove_run(store, run_id, _ANY_AGE)
    clear_pending(store, {each: logs[each] for each in datasets.values()}, datasets, [run_id], _DELETE)
    return done


def _read_logs(store: Store, run_id: str, dataset: str | None) -> dict[str, ChampionLog]:
    """Read all logs and that of a run's dataset, which may be empty, and refuse a run that one of them names."""
    wanted = {*list_logs(store), *([dataset] if dataset else [])}
    logs = {each: read_existing_log(store, each) for each in sorted(wanted)}
    for log in logs.values():
        if log.current is not None and log.current.run_id == run_id:
            raise StoreError(
                f"{run_id} is the champion of {log.dataset}, and is not deleted: make another run the champion first, "
                "with mnist-bp rollback"
            )
        if aliases := sorted(alias for alias, run in log.aliases.items() if run == run_id):
            named = f"alias{'es' if len(aliases) > 1 else ''} {' and '.join(aliases)}"
            raise StoreError(
                f"{run_id} has the {named}, and is not deleted: move the alias first, with mnist-bp alias RUN "
                f"{aliases[0]}, or remove it, with mnist-bp alias --remove {aliases[0]}"
            )
    return logs


def _check_directory(directory: RunDirectory, data_dir: Path, artifacts: str, *, published: bool) -> None:
    if directory.in_progress:
        raise _in_progress(directory.path)
    run = None if published else find_interrupted_run(data_dir, directory.run_id)
    if run is not None and run.artifacts != artifacts:
        raise StoreError(
            f"{directory.path}: the run was started for {run.artifacts}, and may be published there; delete it with "
            f"--artifacts {run.artifacts}"
        )


def _in_progress(directory: Path) -> StoreError:
    return StoreError(
        f"{directory}: a process is working on this run; wait until it ends, or stop it, and delete again"
    )


def _check_finished(store: Store, run: ListedRun, now: datetime) -> None:
    """Refuse a run that a process on another machine may be publishing or deciding about."""
    unfinished = not run.complete or PROMOTION not in run.files
    if unfinished and RUN_ID.fullmatch(run.run_id) and run.newest >= now - RetentionPolicy.grace:
        hours = RetentionPolicy.grace.total_seconds() / 3600
        missing = "manifest" if not run.complete else PROMOTION
        raise StoreError(
            f"{store.uri(RUNS + run.run_id)} has no {missing} yet and files younger than {hours:g} hours: a process on "
            "another machine may be working on it; delete it on that machine, or later"
        )
