"""When a step is tried again: on transport faults alone, with back-off and jitter, within one bounded budget."""

from __future__ import annotations

import logging
from typing import Any, Final

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.tasks import exponential_backoff

from mnist_bp.errors import MnistBpError
from tasks.reporting import show

RETRIES: Final = 3


def worth_retrying(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Decide whether a failed step may succeed when nothing is changed but the time."""
    error = state.data
    transient = isinstance(error, MnistBpError) and error.transient
    if transient:
        show(f"{task.name}: attempt {run.run_count} of {RETRIES + 1} failed: {error}", logging.WARNING)
    return transient


def is_last_attempt() -> bool:
    """Whether the current task run will not be tried again."""
    context = TaskRunContext.get()
    return context is None or context.task_run.run_count > RETRIES


TRANSPORT_RETRIES: Final[dict[str, Any]] = {
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(backoff_factor=1),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": worth_retrying,
}
"""For the steps that use the network: waits of about 1, 2 and 4 seconds, each jittered by up to a half."""
