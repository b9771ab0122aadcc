"""Directories of runs that were made on this machine: found, and removed once nobody needs them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mnist_bp.layout import RUN_ID
from mnist_bp.storage.files import LOCK, reading_from, writing_to
from mnist_bp.training.workspace import run_is_alive, try_lock_run

_REMOVED: Final = ".removed-"


@dataclass(frozen=True)
class RunDirectory:
    """A directory below `<data dir>/runs`.

    Args:
        path: Where it is.
        run_id: Which run it is of.
        files: How many files are in it.
        size: Their size.
        newest: When the last of them was written.
        alive: Whether a process is working on the run.
    """

    path: Path
    run_id: str
    files: int
    size: int
    newest: datetime
    alive: bool


def list_directories(data_dir: Path) -> list[RunDirectory]:
    """List the directories of runs, and those whose removal was begun, in order of run id.

    Raises:
        StoreError: One cannot be read.
    """
    found = sorted((data_dir / "runs").glob("*/"))
    return [_look(path) for path in found if RUN_ID.fullmatch(path.name.removeprefix(_REMOVED))]


def remove_directory(directory: RunDirectory, before: datetime) -> bool:
    """Remove a directory at one stroke: it loses its name, and then its files.

    Args:
        directory: As it was found.
        before: It stays if a file in it is younger by now.

    Returns:
        Whether it was removed; not if a process has begun to work on the run.

    Raises:
        StoreError: It cannot be written to.
    """
    grave = directory.path.with_name(_REMOVED + directory.run_id)
    with writing_to(directory.path):
        if directory.path != grave:
            with try_lock_run(directory.path) as mine:
                if not mine or _look(directory.path).newest >= before:
                    return False
                shutil.rmtree(grave, ignore_errors=True)
                directory.path.rename(grave)
        shutil.rmtree(grave)
    return True


def _look(path: Path) -> RunDirectory:
    with reading_from(path):
        # its lock is touched by whoever only asks for it
        about = [file.stat() for file in path.rglob("*") if file.is_file() and file.name != LOCK]
        newest = max((each.st_mtime for each in about), default=path.stat().st_mtime)
    removed = path.name.startswith(_REMOVED)
    return RunDirectory(
        path=path,
        run_id=path.name.removeprefix(_REMOVED),
        files=len(about),
        size=sum(each.st_size for each in about),
        newest=datetime.fromtimestamp(newest, UTC),
        alive=not removed and run_is_alive(path),
    )
