"""After missed nights the latest one trains, and the earlier ones end as Superseded.

Runs of the nightly deployment wait for its only slot instead of being cancelled. So whichever of several due runs
starts first can decide: it ends the earlier ones, itself included, and lets the latest start at once. Runs with other
parameters, such as those of a second schedule, are left alone, and so are runs that no schedule created.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Scheduled

logger = logging.getLogger(__name__)

SUPERSEDED: Final = "Superseded"
"""Name of the state in which a night ends that a later one replaces."""

_PAGE: Final = 200
"""Maximum number of flow runs that Prefect's server returns at once."""


def supersede_earlier_nights() -> State[Any] | None:
    """End the due runs of the current run's schedule, except the latest.

    Returns:
        The final state of the current run if a later run is due; None if this run is the latest.
    """
    with get_client(sync_client=True) as client:
        current = client.read_flow_run(flow_run.id)
        if not current.auto_scheduled:
            return None
        waiting = [run for run in _due_runs(client, current) if run.parameters == current.parameters]
        latest = max([current, *waiting], key=_due)
        for run in waiting:
            if _due(run) < _due(latest):
                # only a cancelled run cannot be started by a worker that has already fetched it
                client.set_flow_run_state(run.id, Cancelled(name=SUPERSEDED, message=_reason(latest)))
                logger.info(f"the run due at {_due(run):%Y-%m-%d %H:%M:%S} UTC is {_reason(latest)}")
        if latest is current:
            return None
        client.set_flow_run_state(latest.id, Scheduled())  # now: it may wait for the slot of this run
        return Completed(name=SUPERSEDED, message=_reason(latest))  # a flow that ends as cancelled would log an error


def _due_runs(client: SyncPrefectClient, current: FlowRun) -> Iterator[FlowRun]:
    """Yield the runs of the current run's deployment that a schedule created, are due, and have not started."""
    due = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[current.deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
    )
    for offset in itertools.count(0, _PAGE):
        page = client.read_flow_runs(
            flow_run_filter=due, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=_PAGE, offset=offset
        )
        yield from (run for run in page if run.auto_scheduled)
        if len(page) < _PAGE:
            return


def _due(run: FlowRun) -> datetime:
    """Return when a run was due, in UTC."""
    assert run.expected_start_time is not None  # set when a run is created
    return run.expected_start_time.astimezone(UTC)


def _reason(latest: FlowRun) -> str:
    return f"superseded by the run due at {_due(latest):%Y-%m-%d %H:%M:%S} UTC ({latest.id})"
