"""Which runs are zombies: only those whose process is known to have ended."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import pytest
from prefect.client.schemas.objects import FlowRun, State, StateDetails
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus, StateAcceptDetails
from prefect.exceptions import ObjectNotFound
from prefect.states import Running

from flows.runtime import crashed_runs, notifications, serving
from flows.runtime.crashed_runs import (
    DIRECTORY,
    HOST,
    HOST_VARIABLE,
    PID,
    RESUME,
    RUN_ID,
    STARTED,
    crash_zombie_runs,
    host_id,
    is_zombie,
    run_labels,
)
from flows.runtime.serving import crash_killed_runs
from mnist_bp.layout import run_directory
from tests.support.waiting import eventually


def labelled() -> FlowRun:
    """A run labelled with this process."""
    labels = {HOST: host_id(), PID: os.getpid(), STARTED: psutil.Process().create_time()}
    return FlowRun(flow_id=uuid4(), labels=labels)


def test_a_run_whose_process_runs_is_not_a_zombie() -> None:
    assert not is_zombie(labelled())


def test_a_run_whose_process_ended_is_a_zombie() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    labels = {HOST: host_id(), PID: process.pid, STARTED: psutil.Process(process.pid).create_time()}
    run = FlowRun(flow_id=uuid4(), labels=labels)
    assert not is_zombie(run)
    process.kill()
    eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, "it was not killed")
    assert is_zombie(run)  # the process is a zombie too: its exit code was not read yet
    process.communicate()
    assert is_zombie(run)


def test_a_run_whose_process_id_was_reused_is_a_zombie() -> None:
    run = labelled()
    run.labels[STARTED] = psutil.Process().create_time() - 60
    assert is_zombie(run)


@pytest.mark.parametrize("labels", [{}, {HOST: "another"}, {PID: "12"}, {STARTED: None}])
def test_a_run_labelled_elsewhere_or_not_at_all_is_not_a_zombie(labels: dict[str, Any]) -> None:
    run = labelled()
    run.labels.update({PID: 2**22 + 1})  # no such process
    assert is_zombie(run)
    if labels:
        run.labels.update(labels)
    else:
        run.labels.clear()
    assert not is_zombie(run)


@pytest.mark.parametrize(
    ("data_dir", "deployed", "script"),
    [("data", "", ""), ("/srv/d", """ --param 'config={"data_dir": "/srv/d"}'""", " --data-dir /srv/d")],
)
def test_a_run_is_labelled_with_the_command_that_resumes_it(data_dir: str, deployed: str, script: str) -> None:
    directory = run_directory(data_dir, "RUN")
    on_deployment = f"prefect deployment run mnist-bp/train --param resume=RUN{deployed}"
    for labels, command in (
        (run_labels(directory, on_deployment=True), on_deployment),
        (run_labels(directory, on_deployment=False), f"mnist-bp train --resume RUN{script}"),
    ):
        assert labels == {DIRECTORY: str(directory), RUN_ID: "RUN", RESUME: command}


class Refusing:
    """A client of a server that answers HTTP 500 to states of runs of a name, and knows no deployment."""

    def __init__(self, *runs: FlowRun) -> None:
        self.runs = {run.id: run for run in runs}
        self.released: list[UUID] = []

    def read_flow_runs(self, **_: object) -> list[FlowRun]:
        return list(self.runs.values())

    def read_flow_run(self, run: UUID) -> FlowRun:
        return self.runs[run]

    def read_deployment(self, _: UUID) -> None:
        raise ObjectNotFound(LookupError())

    def release_concurrency_slots_with_lease(self, lease: UUID) -> None:
        self.released.append(lease)

    def set_flow_run_state(self, run: UUID, state: State[Any]) -> OrchestrationResult[Any]:
        if (name := self.runs[run].name) == "refused":
            reply = httpx.Response(500, request=httpx.Request("POST", "http://server"))
            raise httpx.HTTPStatusError("500", request=reply.request, response=reply)
        if name == "deleted":
            raise ObjectNotFound(LookupError())
        status = SetStateStatus.ABORT if name == "marked by another process" else SetStateStatus.ACCEPT
        return OrchestrationResult(state=state, status=status, details=StateAcceptDetails())


@pytest.fixture
def zombies(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """A server with four running zombies, of which it marks the last."""

    def zombie(name: str) -> FlowRun:
        run = labelled()
        run.labels.update({PID: 2**22 + 1})  # no such process
        details = StateDetails(deployment_concurrency_lease_id=uuid4())
        state: State[Any] = Running(state_details=details)
        return run.model_copy(update={"name": name, "state": state, "deployment_id": uuid4()})

    server = Refusing(*map(zombie, ("refused", "deleted", "marked by another process", "killed")))
    monkeypatch.setattr(crashed_runs, "get_client", lambda **_: nullcontext(server))
    return server


def test_a_run_that_the_server_does_not_mark_hides_no_other_and_is_named_with_how_to_delete_it(
    zombies: Refusing,
) -> None:
    refused, killed = crash_zombie_runs()
    assert (killed.run.name, killed.line) == (
        "killed",
        "flow run killed: its process was killed; it is marked as Crashed",
    )
    assert refused.line == (
        "flow run refused: its process was killed, but the server does not mark it as Crashed (HTTP 500); if it stays "
        f"Running, see the server's log, or delete it: prefect flow-run delete {refused.run.id}"
    )
    assert len(zombies.released) == 4  # their deployment is missing


def test_only_a_run_that_was_marked_is_notified(
    zombies: Refusing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(serving, "resume_command", lambda run: f"resume {run.name}")
    monkeypatch.setattr(notifications, "emit_event", lambda *_, payload: sent.append(payload["message"]))
    crash_killed_runs()
    assert sent == ["flow run killed: its process was killed; it is marked as Crashed"]
    first, second, *how = capsys.readouterr().err.splitlines()
    assert (first.partition(":")[0], second.partition(":")[0]) == ("flow run refused", "flow run killed")
    assert how == ["the run is kept; once this process has started, resume the run with:", "resume killed"]


def test_a_container_recognizes_the_runs_of_its_predecessor_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOST_VARIABLE, "worker")
    run = labelled()
    run.labels.update({PID: 2**22 + 1})  # no such process
    assert run.labels[HOST] == "worker"  # without a PID namespace, which is another one after a restart
    assert is_zombie(run)
    monkeypatch.setenv(HOST_VARIABLE, "another-worker")
    assert not is_zombie(run)
