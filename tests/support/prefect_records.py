"""What Prefect's server has recorded of a flow run."""

from __future__ import annotations

import asyncio

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

from tests.support.waiting import eventually


def newest_flow_run() -> FlowRun:
    with get_client(sync_client=True) as client:
        return max(client.read_flow_runs(), key=lambda run: str(run.created))


def task_runs_of(run: FlowRun) -> list[TaskRun]:
    """Task runs reach the server through its event stream, a moment after they end."""

    def look() -> list[TaskRun] | None:
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
        return runs if all(task.state is not None and task.state.is_final() for task in runs) else None

    return sorted(eventually(look, "its task runs are not final"), key=lambda task: str(task.start_time))


def logs_of(run: FlowRun) -> list[str]:
    only = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    with get_client(sync_client=True) as client:
        logs = eventually(lambda: client.read_logs(log_filter=only), "it has no logs")
    return [log.message for log in logs]


def artifacts_of(run: FlowRun) -> dict[str, Artifact]:
    async def read() -> list[Artifact]:
        async with get_client() as client:
            only = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
            return await client.read_artifacts(artifact_filter=only)

    return {str(artifact.key): artifact for artifact in asyncio.run(read())}


def artifact_of(run: FlowRun, key: str) -> Artifact:
    """Artifacts of hooks reach the server after the state that they follow."""
    return eventually(lambda: artifacts_of(run).get(key), f"it has no artifact {key}")
