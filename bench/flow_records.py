"""When flows and their tasks began and ended, from Prefect's own records."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from mnist_bp.errors import MnistBpError

TASKS: Final = ("download", "preprocess", "train", "evaluate", "upload")

Interval = tuple[float, float]
"""Seconds since 1970."""

QUIET: Final = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
"""Settings of `flows/train.py`: Prefect prints no log and sends no analytics."""


def records_of(run_ids: Sequence[str]) -> dict[str, dict[str, Interval]]:
    """Read from Prefect when runs, and the tasks in them, began and ended; starts a temporary server if none runs.

    Args:
        run_ids: Runs; each is found by its task `upload-<run id>`.

    Returns:
        For each run the interval of the flow (`flow`) and of each of `TASKS`, in seconds since 1970.

    Raises:
        MnistBpError: A run's record is missing or incomplete.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)  # Prefect reads its settings when it is imported
    from prefect import get_client  # 1 s
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterId,
        TaskRunFilter,
        TaskRunFilterName,
    )

    found = {}
    with get_client(sync_client=True) as client:
        for run_id in run_ids:
            named = TaskRunFilter(name=TaskRunFilterName(any_=[f"upload-{run_id}"]))
            uploads = client.read_task_runs(task_run_filter=named)
            if not uploads or uploads[0].flow_run_id is None:
                raise MnistBpError(f"Prefect has no record of run {run_id}: is its history kept ($PREFECT_HOME)?")
            flow_run_id = uploads[0].flow_run_id
            flow = client.read_flow_run(flow_run_id)
            within = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
            record = {"flow": _interval(flow.start_time, flow.end_time)}
            for task in client.read_task_runs(flow_run_filter=within):
                record[task.name.partition("-")[0]] = _interval(task.start_time, task.end_time)
            missing = [name for name in ("flow", *TASKS) if record.get(name) is None]
            if missing:
                raise MnistBpError(f"Prefect's record of run {run_id} lacks {', '.join(missing)}: run again")
            found[run_id] = {name: interval for name, interval in record.items() if interval is not None}
    return found


def _interval(start: datetime | None, end: datetime | None) -> Interval | None:
    return (start.timestamp(), end.timestamp()) if start and end else None
