"""What Prefect's server has recorded of a flow run."""

from __future__ import annotations

import asyncio
import time

from prefect import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun


def newest_flow_run() -> FlowRun:
    with get_client(sync_client=True) as client:
        return max(client.read_flow_runs(), key=lambda run: str(run.created))


def task_runs_of(run: FlowRun) -> list[TaskRun]:
    """Task runs reach the server through its event stream, a moment after they end."""
    deadline = time.monotonic() + 20
    while True:
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
        if runs and all(task.state is not None and task.state.is_final() for task in runs):
            return sorted(runs, key=lambda task: str(task.start_time))
        assert time.monotonic() < deadline, [(task.name, task.state_name) for task in runs]
        time.sleep(0.2)


def logs_of(run: FlowRun) -> list[str]:
    only = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    with get_client(sync_client=True) as client:
        deadline = time.monotonic() + 20
        while not (logs := client.read_logs(log_filter=only)) and time.monotonic() < deadline:
            time.sleep(0.2)
    return [log.message for log in logs]


def artifacts_of(run: FlowRun) -> dict[str, Artifact]:
    async def read() -> list[Artifact]:
        async with get_client() as client:
            only = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
            return await client.read_artifacts(artifact_filter=only)

    return {str(artifact.key): artifact for artifact in asyncio.run(read())}
