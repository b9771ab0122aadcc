"""Mark flow runs as Crashed whose process was killed: Prefect would list them as Running forever.

Every flow run is labelled with its process. A run is a zombie if this machine labelled it and the process no longer
runs. Runs without labels, or labelled by another machine, are left alone. Once a flow run trains, it is also labelled
with its run directory, and with the command that resumes it, which alarms repeat.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
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
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from mnist_bp.training.journal import Journal
from mnist_bp.training.resume import is_default_data_dir, resume_flags
from tasks import ui

FLOW: Final = "mnist-bp"
HOST: Final = "mnist-bp.host"
PID: Final = "mnist-bp.pid"
STARTED: Final = "mnist-bp.process-started"
PARENT: Final = "mnist-bp.parent-pid"
DIRECTORY: Final = "mnist-bp.run-directory"
RUN_ID: Final = "mnist-bp.run-id"
RESUME: Final = "mnist-bp.resume"

HOST_VARIABLE: Final = "MNIST_BP_HOST_ID"
"""Environment variable: name of this machine or container among those that run flows at the same time."""

_CLOCK_TOLERANCE_S: Final = 2.0
"""Seconds by which two readings of a process's start may differ when the clock is set between them."""

_RECENTLY: Final = timedelta(minutes=2)
"""Longer than a serving process waits for its runs to end."""


def label_with_process(run: FlowRun) -> None:
    """Store in a flow run's labels which process runs it: this one."""
    started = psutil.Process().create_time()
    labels: dict[str, Any] = {HOST: host_id(), PID: os.getpid(), STARTED: started, PARENT: os.getppid()}
    ui.label_flow_run(run.id, labels)


@dataclass(frozen=True)
class Zombie:
    """A run whose process was killed.

    Args:
        run: The run.
        refusal: The reply of a server that does not mark it as Crashed; None once it is marked.
    """

    run: FlowRun
    refusal: httpx.Response | None = None

    @property
    def line(self) -> str:
        """A description in one line."""
        killed = f"flow run {self.run.name}: its process was killed"
        if self.refusal is None:
            return f"{killed}; it is marked as Crashed"
        return (
            f"{killed}, but the server does not mark it as Crashed (HTTP {self.refusal.status_code}); if it stays "
            f"Running, see the server's log, or delete it: prefect flow-run delete {self.run.id}"
        )


def crash_zombie_runs() -> list[Zombie]:
    """Mark every zombie among the running runs of the flow as Crashed.

    Returns:
        The runs that were marked, and those that the server refuses to mark. Runs that another process marked or
        deleted in the meantime are left out.
    """
    with get_client(sync_client=True) as client:
        zombies = map(partial(_crash, client), filter(is_zombie, _runs_in(client, StateType.RUNNING)))
        return [zombie for zombie in zombies if zombie is not None]


def list_interrupted_children() -> list[FlowRun]:
    """List the runs that crashed in the last minutes in child processes of this process, which was interrupted."""
    recently = datetime.now(UTC) - _RECENTLY
    with get_client(sync_client=True) as client:
        return [
            run
            for run in _runs_in(client, StateType.CRASHED)
            if (run.labels.get(HOST), run.labels.get(PARENT)) == (host_id(), os.getpid())
            and (run.end_time is None or run.end_time > recently)
        ]


def _runs_in(client: SyncPrefectClient, state: StateType) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state]))),
        sort=FlowRunSort.START_TIME_DESC,  # one page of 200
    )


def resume_command(run: FlowRun) -> str | None:
    """Return the command that resumes a run on its deployment; None if it has not begun to train."""
    if (label := run.labels.get(DIRECTORY)) is None or not Journal(directory := Path(str(label))).path.exists():
        return None
    return _resume_on_deployment(directory, str(Path(sys.executable).with_name("prefect")))


def run_labels(directory: Path, *, on_deployment: bool) -> dict[str, Any]:
    """Return the labels of a flow run that trains in a run directory.

    Args:
        directory: The run directory.
        on_deployment: Whether the flow run belongs to a deployment; otherwise it is that of a script.
    """
    script = shlex.join(["mnist-bp", "train", *resume_flags(directory.name, str(directory.parents[1]))])
    command = _resume_on_deployment(directory, "prefect") if on_deployment else script
    return {DIRECTORY: str(directory), RUN_ID: directory.name, RESUME: command}


def _resume_on_deployment(directory: Path, prefect: str) -> str:
    parameters, data_dir = [f"resume={directory.name}"], str(directory.parents[1])
    if not is_default_data_dir(data_dir):
        parameters.append(f"config={json.dumps({'data_dir': data_dir})}")
    flags = [word for parameter in parameters for word in ("--param", parameter)]
    return shlex.join([prefect, "deployment", "run", f"{FLOW}/train", *flags])


def is_zombie(run: FlowRun) -> bool:
    """Return whether the process that this machine labelled a run with has ended."""
    host, pid, started = (run.labels.get(name) for name in (HOST, PID, STARTED))
    if host != host_id() or not isinstance(pid, int) or not isinstance(started, float | int):
        return False
    try:
        process = psutil.Process(pid)
        is_another = abs(process.create_time() - started) > _CLOCK_TOLERANCE_S
        return is_another or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _crash(client: SyncPrefectClient, run: FlowRun) -> Zombie | None:
    """Mark a zombie as Crashed, unless its state, read after its process ended, is final."""
    message = f"Its process ({run.labels[PID]} on {socket.gethostname()}) was killed."
    try:
        state = client.read_flow_run(run.id).state
        if state is None or not state.is_running():
            return None
        _release_lost_slot(client, run, state)
        reply: OrchestrationResult[Any] = client.set_flow_run_state(run.id, Crashed(message=message))
    except ObjectNotFound:
        return None
    except httpx.HTTPStatusError as exc:
        return Zombie(run, exc.response)
    return Zombie(run) if reply.status == SetStateStatus.ACCEPT else None


def _release_lost_slot(client: SyncPrefectClient, run: FlowRun, state: State[Any]) -> None:
    """Release the slot of a run whose deployment has no limit any more, or is deleted.

    Until the slot is released, the server (3.9.1) answers HTTP 500 to every final state of the run, and yet emits an
    event of that state, which raises an alarm. If there is a limit, the server releases the slot by itself.
    """
    lease = state.state_details.deployment_concurrency_lease_id
    if lease is None or run.deployment_id is None:
        return
    try:
        is_limited = client.read_deployment(run.deployment_id).global_concurrency_limit is not None
    except ObjectNotFound:
        is_limited = False
    if not is_limited:
        client.release_concurrency_slots_with_lease(lease)


def host_id() -> str:
    """Return the host's name and, since a container numbers its processes separately, its PID namespace.

    A container that starts again has another namespace. If it is never started twice at a time, $MNIST_BP_HOST_ID names
    it, and it recognizes the runs that were killed with it.
    """
    if given := os.environ.get(HOST_VARIABLE):
        return given
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{namespace.stat().st_ino if namespace.exists() else 0}"
