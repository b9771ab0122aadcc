"""A run's directory while it is being made: its name, who works in it, and which others there are.

<data dir>/runs/<run id>/journal.jsonl    what has been done, see `mnist_bp.training.journal`
                        /checkpoints/     one file of weights for each
                        /.lock            held by the process that works on the run

Nothing here needs torch or the configuration.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from mnist_bp.errors import StoreError
from mnist_bp.storage.files import is_locked, locked

_NEAREST: Final = 3

_PATIENCE: Final = 0.5
"""Seconds to wait for a lock that someone may only be looking at."""


def nearest_runs(data_dir: str | Path, run_id: str) -> list[str]:
    """List the runs in a data directory whose ids are most like one that is not there, the nearest first."""
    there = [path.name for path in (Path(data_dir) / "runs").glob("*/")]
    return difflib.get_close_matches(run_id, there, n=_NEAREST, cutoff=0)


@contextmanager
def lock_run(directory: Path) -> Iterator[None]:
    """Keep other processes off a run; a process that dies lets go. Within one process it may be nested.

    Raises:
        StoreError: Another process works on it, or the directory cannot be written to.
    """
    held_by_another = StoreError(
        f"{directory}: another process is working on this run; wait until it ends, or stop it, and run again"
    )
    with locked(directory, patience=_PATIENCE, otherwise=held_by_another):
        yield


@contextmanager
def try_lock_run(directory: Path) -> Iterator[bool]:
    """Keep everybody off a run if nobody works on it, this process included; without waiting.

    Yields:
        Whether nobody does.

    Raises:
        StoreError: The directory cannot be written to.
    """
    busy = StoreError(f"{directory}: a process is working on this run")
    with ExitStack() as held:
        try:
            held.enter_context(locked(directory, patience=0, otherwise=busy, nested=False))
        except StoreError as exc:
            if exc is not busy:
                raise
            yield False
        else:
            yield True


def run_is_alive(directory: Path) -> bool:
    """Tell whether a process is working on the run in a directory, as far as this machine's locks reach."""
    return is_locked(directory)
