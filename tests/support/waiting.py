"""Limits of waits: long where a wait only has to end some day, and in proportion to the load where time is the claim.

eventually(lambda: path.exists(), "it was not written")    # polls; ends as soon as it is true
process.communicate(timeout=HANG_S)                        # what never ends on a broken program
assert seconds < under_load(3)                             # what takes at most 3 s on an idle machine
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

import psutil

HANG_S: Final = 300.0
"""Seconds after which an event is taken for one that never comes. pytest ends a test after twice that time."""
POLL_INTERVAL_S: Final = 0.05

Found = TypeVar("Found")


def under_load(seconds: float) -> float:
    """Return a limit in seconds that is `seconds` on an idle machine and grows with the processes that share it."""
    loads = [os.getloadavg()[0], _runnable()]  # the mean of a minute, and now: either may be out of date
    return seconds * max(1.0, 2 * max(loads) / cores())


def cores() -> int:
    """Return how many processes of the machine may run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def eventually(look: Callable[[], Found | None], what: str, timeout: float = HANG_S) -> Found:
    """Poll until the result is true."""
    deadline = time.monotonic() + timeout
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, what
        time.sleep(POLL_INTERVAL_S)


def assert_ended(processes: Iterable[psutil.Process], seconds: float = 10) -> None:
    """Check that processes end within a time, which grows with the load."""
    left = psutil.wait_procs([*processes], timeout=under_load(seconds))[1]
    assert not left, left


def _runnable() -> float:
    """Return the number of processes that run or could run, where the system reports it."""
    counts = Path("/proc/loadavg")
    return float(counts.read_text().split()[3].partition("/")[0]) if counts.exists() else 0.0
