"""Ends this process when another one, on which it depends, is gone. Needs nothing of Prefect."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psutil

from mnist_bp.cli.process import INTERRUPTED

SERVED_BY: Final = "MNIST_BP_SERVED_BY"
"""Environment variable of runs: the id of the process that serves them, and has the Prefect server that they need."""

_LOOK_EVERY: Final = 0.5
"""Seconds between two looks."""


def end_with(pid: int, end: Callable[[], None]) -> None:
    """From now on, do something soon after another process has ended, or at once if there is none.

    Args:
        pid: Its id.
        end: Called in a thread, within half a second; ends this process.
    """

    def wait() -> None:
        with suppress(psutil.Error):
            other = psutil.Process(pid)
            while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
                time.sleep(_LOOK_EVERY)
        end()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def exit_when_serving_process_dies() -> None:
    """See to it that this process, which makes a run, does not outlive the one that serves it along with the server.

    The run is kept as after any kill, and can be resumed.
    """
    if pid := os.environ.get(SERVED_BY):
        end_with(int(pid), lambda: os._exit(INTERRUPTED))
