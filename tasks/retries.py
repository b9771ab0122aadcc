"""When Prefect runs a task again: a download after a transport fault, training once after an unexpected exception."""

from __future__ import annotations

import logging
from typing import Any, Final

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext

from mnist_bp.errors import MnistBpError
from mnist_bp.pipeline import DOWNLOAD_WAITS_S, failed_attempt

logger = logging.getLogger(__name__)

RETRIES: Final = len(DOWNLOAD_WAITS_S)


def is_transport_fault(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether a task failed in a way that may pass, and log the attempt."""
    error = state.data
    transient = isinstance(error, MnistBpError) and error.transient
    if transient:
        logger.warning(failed_attempt(task.name, run.run_count, error))
    return transient


def is_last_attempt() -> bool:
    """Return whether the current task run will not be retried."""
    context = TaskRunContext.get()
    return context is None or context.task_run.run_count > RETRIES


RETRY_TRANSPORT_FAULTS: Final[dict[str, Any]] = {
    "retries": RETRIES,
    "retry_delay_seconds": list(DOWNLOAD_WAITS_S),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_transport_fault,
}
"""For downloads: back-off of about 1, 2 and 4 seconds with jitter. Requests to a store have their retries in
`mnist_bp.storage.retries`."""


def is_unexpected(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether training was stopped by an exception that the library does not raise on purpose."""
    error = state.data
    unexpected = isinstance(error, Exception) and not isinstance(error, MnistBpError)
    if unexpected and run.run_count == 1:
        logger.warning(f"{task.name}: interrupted by {error!r}; resuming from its newest checkpoint")
    return unexpected


RESUME_ONCE: Final[dict[str, Any]] = {"retries": 1, "retry_condition_fn": is_unexpected}
"""For training: the second attempt resumes from the newest checkpoint."""
