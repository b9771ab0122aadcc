"""When a step is tried again: on transport faults, with back-off and jitter, within one bounded budget.

And training, once, on what nobody expected: the attempt after it continues where the first was broken off.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext

from mnist_bp.errors import MnistBpError
from mnist_bp.pipeline import DOWNLOAD_WAITS, attempt_failed
from tasks.ui import show

RETRIES: Final = len(DOWNLOAD_WAITS)


def worth_retrying(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Decide whether a failed step may succeed when nothing is changed but the time."""
    error = state.data
    transient = isinstance(error, MnistBpError) and error.transient
    if transient:
        show(attempt_failed(task.name, run.run_count, error), logging.WARNING)
    return transient


def is_last_attempt() -> bool:
    """Whether the current task run will not be tried again."""
    context = TaskRunContext.get()
    return context is None or context.task_run.run_count > RETRIES


TRANSPORT_RETRIES: Final[dict[str, Any]] = {
    "retries": RETRIES,
    "retry_delay_seconds": list(DOWNLOAD_WAITS),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": worth_retrying,
}
"""For the steps that use the network: waits of about 1, 2 and 4 seconds; see `DOWNLOAD_WAITS`."""


def worth_continuing(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Decide whether training may get past what stopped it: not if it was stopped on purpose, and would be again."""
    error = state.data
    unexpected = isinstance(error, Exception) and not isinstance(error, MnistBpError)
    if unexpected and run.run_count == 1:
        show(f"{task.name}: broken off by {error!r}, and continued from its newest checkpoint", logging.WARNING)
    return unexpected


CONTINUED_ONCE: Final[dict[str, Any]] = {"retries": 1, "retry_condition_fn": worth_continuing}
"""For training, whose checkpoints are kept."""
