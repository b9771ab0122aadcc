"""What is left of the time in which nothing was served."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled


def cancel_superseded(flow: str, deployment: str) -> list[FlowRun]:
    """Cancel the scheduled runs of a deployment that are overdue, all but the last of them.

    Served after some nights, they would all start at once, the first would run and the night that counts be cancelled.

    Returns:
        Those that were cancelled.
    """
    with get_client(sync_client=True) as client:
        overdue = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[deployment])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
                expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
            ),
        )
        by_schedule = sorted(
            (run for run in overdue if run.auto_scheduled), key=lambda run: str(run.expected_start_time)
        )
        for run in by_schedule[:-1]:
            client.set_flow_run_state(run.id, Cancelled(message="A later night is due as well, and is run instead."))
        return by_schedule[:-1]
