"""Run directories: locked by the process that works on the run, listed, and removed.

    <data dir>/runs/<run id>/journal.jsonl    settings, checkpoints and resumptions, see `mnist_bp.training.journal`
                            /checkpoints/     one file of weights for each checkpoint
                            /.lock            held by the process that works on the run

This module needs neither torch nor the configuration.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mnist_bp.errors import StoreError
from mnist_bp.layout import RUN_ID, run_directory
from mnist_bp.storage.locks import LOCK, is_locked, locked
from mnist_bp.storage.os_errors import reading_from, writing_to

_MAX_NEAREST: Final = 3

_LOCK_TIMEOUT_S: Final = 0.5
"""Seconds to wait for a lock that another process may only be testing."""

_REMOVED: Final = ".removed-"


@dataclass(frozen=True)
class RunDirectory:
    """A directory below `<data dir>/runs`.

    Args:
        path: The directory.
        run_id: The run's id.
        files: Number of files, the lock not counted.
        size: Total size of the files, in bytes.
        newest: Time of the latest change to a file.
        in_progress: Whether a process is working on the run.
    """

    path: Path
    run_id: str
    files: int
    size: int
    newest: datetime
    in_progress: bool


_newest_locked: Path | None = None


@contextmanager
def lock_run(directory: Path) -> Iterator[None]:
    """Keep other processes off a run; the lock of a process that dies is released. May be nested within one process.

    Args:
        directory: The run's directory; created if it is missing.

    Raises:
        StoreError: Another process is working on the run, or the directory cannot be written to.
    """
    global _newest_locked
    busy = StoreError(
        f"{directory}: another process is working on this run; wait until it ends, or stop it, and run again"
    )
    with locked(directory, timeout=_LOCK_TIMEOUT_S, busy=busy, reentrant=True):
        _newest_locked = directory
        yield


def newest_locked_run() -> Path | None:
    """Return the directory of the run that this process locked last, or None."""
    return _newest_locked


@contextmanager
def try_lock_run(directory: Path) -> Iterator[bool]:
    """Keep all other work off a run, unless a process (this one included) is working on it already. Does not wait.

    Args:
        directory: The run's directory.

    Yields:
        Whether the lock was acquired.

    Raises:
        StoreError: The directory cannot be written to.
    """
    busy = StoreError(f"{directory}: a process is working on this run")
    with ExitStack() as held:
        try:
            held.enter_context(locked(directory, timeout=0, busy=busy))
        except StoreError as exc:
            if exc is not busy:
                raise
            yield False
        else:
            yield True


def nearest_runs(data_dir: str | Path, run_id: str) -> list[str]:
    """List the runs in a data directory whose ids are most similar to a given one, the most similar first."""
    names = [path.name for path in (Path(data_dir) / "runs").glob("*/")]
    return difflib.get_close_matches(run_id, names, n=_MAX_NEAREST, cutoff=0)


def list_directories(data_dir: Path) -> list[RunDirectory]:
    """List run directories, including those whose removal was interrupted, in order of run id.

    Raises:
        StoreError: A directory cannot be read.
    """
    found = sorted((data_dir / "runs").glob("*/"))
    return [_inspect(path) for path in found if RUN_ID.fullmatch(path.name.removeprefix(_REMOVED))]


def find_directory(data_dir: Path, run_id: str) -> RunDirectory | None:
    """Find the directory of a run; None if it has none on this machine.

    Raises:
        StoreError: The directory cannot be read.
    """
    path = run_directory(data_dir, run_id)
    return _inspect(path) if RUN_ID.fullmatch(run_id) and path.is_dir() else None


def list_run_ids(data_dir: str | Path) -> list[str]:
    """List the ids of the runs that have a directory on this machine, in order."""
    return sorted(path.name for path in (Path(data_dir) / "runs").glob("*/") if RUN_ID.fullmatch(path.name))


def remove_directory(directory: RunDirectory, before: datetime) -> bool:
    """Remove a run directory. It is renamed first, so that no half of it is ever found under the run's id.

    Args:
        directory: The directory, as it was listed.
        before: The directory is kept if one of its files has changed since this time.

    Returns:
        Whether it was removed; False if a process has started to work on the run, or changed it.

    Raises:
        StoreError: The directory cannot be written to.
    """
    renamed = directory.path.with_name(_REMOVED + directory.run_id)
    with writing_to(directory.path):
        if directory.path != renamed:
            with try_lock_run(directory.path) as acquired:
                if not acquired or _inspect(directory.path).newest >= before:
                    return False
                shutil.rmtree(renamed, ignore_errors=True)
                directory.path.rename(renamed)
        shutil.rmtree(renamed)
    return True


def _inspect(path: Path) -> RunDirectory:
    with reading_from(path):
        # not the lock, which every process that tests it touches
        stats = [file.stat() for file in path.rglob("*") if file.is_file() and file.name != LOCK]
        newest = max((stat.st_mtime for stat in stats), default=path.stat().st_mtime)
    return RunDirectory(
        path=path,
        run_id=path.name.removeprefix(_REMOVED),
        files=len(stats),
        size=sum(stat.st_size for stat in stats),
        newest=datetime.fromtimestamp(newest, UTC),
        in_progress=not path.name.startswith(_REMOVED) and is_locked(path),
    )
