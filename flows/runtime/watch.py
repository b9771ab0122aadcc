"""Watch another process, and act when it has ended. Needs neither Prefect nor the library's rooms."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psutil

POLL_INTERVAL_S: Final = 0.5

SERVED_BY: Final = "MNIST_BP_SERVED_BY"
"""Environment variable of runs: id of the serving process, whose Prefect server they need."""


def when_process_dies(pid: int, act: Callable[[], None]) -> None:
    """Call a function in a thread once another process has ended, however it ended.

    Args:
        pid: Id of the process; if no such process exists, the function is called at once.
        act: Called within `POLL_INTERVAL_S`.
    """

    def wait() -> None:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(POLL_INTERVAL_S)
        act()

    threading.Thread(target=wait, name=f"watch-{pid}", daemon=True).start()
