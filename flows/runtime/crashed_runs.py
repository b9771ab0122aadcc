"""Tells flow runs that are being made from those whose process was killed, which Prefect would call running for ever.

Every run is signed with the process that makes it. A run is dead if it was signed on this machine and its process is no
longer there; of a run that is unsigned, or was signed elsewhere, nothing is known, and it is left alone.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Final

import psutil
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.states import Crashed

FLOW: Final = "mnist-bp"
HOST: Final = "mnist-bp.host"
PID: Final = "mnist-bp.pid"
STARTED: Final = "mnist-bp.process-started"

_TOLERANCE: Final = 2.0
"""Seconds by which two readings of one process's start may differ: a clock that is set moves them."""


def sign_flow_run() -> None:
    """Write down, in the current flow run's labels, which process makes it."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    labels: dict[str, Any] = {HOST: _host(), PID: os.getpid(), STARTED: psutil.Process().create_time()}
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(context.flow_run.id, labels)


def crash_zombie_runs() -> list[FlowRun]:
    """Mark as Crashed every run of the flow that is called running and whose process is gone.

    Returns:
        Those that were marked.
    """
    with get_client(sync_client=True) as client:
        called_running = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
            ),
        )
        return [run for run in called_running if is_zombie(run) and _bury(client, run)]


def is_zombie(run: FlowRun) -> bool:
    """Whether the process that signed a run on this machine is known to be gone."""
    host, pid, started = (run.labels.get(name) for name in (HOST, PID, STARTED))
    if host != _host() or not isinstance(pid, int) or not isinstance(started, float | int):
        return False
    try:
        process = psutil.Process(pid)
        another = abs(process.create_time() - started) > _TOLERANCE
        return another or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _bury(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Mark a dead run, unless it had ended properly: only what is read after its death is its last word."""
    state = client.read_flow_run(run.id).state
    if state is None or not state.is_running():
        return False
    message = f"Its process ({run.labels[PID]} on {socket.gethostname()}) is gone: it was killed."
    client.set_flow_run_state(run.id, Crashed(message=message))
    return True


def _host() -> str:
    """Name this machine, and in a container the numbering of processes that is the container's own."""
    numbering = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{numbering.stat().st_ino if numbering.exists() else 0}"
