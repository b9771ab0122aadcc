"""A run's directory while it is being made: its name, who works in it, and which others there are.

<data dir>/runs/<run id>/journal.jsonl    what has been done, see `mnist_bp.journal`
                        /checkpoints/     one file of weights for each
                        /.lock            held by the process that works on the run

Nothing here needs torch or the configuration.
"""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mnist_bp.errors import StoreError
from mnist_bp.files import is_locked, locked

_TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_NEAREST: Final = 3

_PATIENCE: Final = 0.5
"""Seconds to wait for a lock that someone may only be looking at."""


def new_run_id() -> str:
    """Make an id that sorts by time and is never reused, such as 20261123T181500Z-1a2b3c4d."""
    return f"{datetime.now(UTC).strftime(_TIME_FORMAT)}-{secrets.token_hex(4)}"


def created_at(run_id: str) -> datetime:
    """Read the time of its making, to the second, out of a run id."""
    return datetime.strptime(run_id.partition("-")[0], _TIME_FORMAT).replace(tzinfo=UTC)


def run_directory(data_dir: str | Path, run_id: str) -> Path:
    """Name the directory in which a run is made, absolutely."""
    return (Path(data_dir) / "runs" / run_id).absolute()


def checkpoint_path(directory: Path, step: int) -> Path:
    """Name the file of the weights after a number of steps."""
    return directory / "checkpoints" / f"step-{step:07d}.safetensors"


def nearest_runs(data_dir: str | Path, run_id: str) -> list[str]:
    """List the runs in a data directory whose ids are most like one that is not there, the nearest first."""
    there = [path.name for path in (Path(data_dir) / "runs").glob("*/")]
    return difflib.get_close_matches(run_id, there, n=_NEAREST, cutoff=0)


@contextmanager
def working_on(directory: Path) -> Iterator[None]:
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
def claiming(directory: Path) -> Iterator[bool]:
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
