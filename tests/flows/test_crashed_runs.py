"""Which runs are zombies: only those whose process is known to have ended."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any
from uuid import uuid4

import psutil
import pytest
from prefect.client.schemas.objects import FlowRun

from flows.runtime.crashed_runs import (
    DIRECTORY,
    HOST,
    HOST_VARIABLE,
    PID,
    RESUME,
    RUN_ID,
    STARTED,
    host_id,
    is_zombie,
    run_labels,
)
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


def test_a_container_recognizes_the_runs_of_its_predecessor_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOST_VARIABLE, "worker")
    run = labelled()
    run.labels.update({PID: 2**22 + 1})  # no such process
    assert run.labels[HOST] == "worker"  # without a PID namespace, which is another one after a restart
    assert is_zombie(run)
    monkeypatch.setenv(HOST_VARIABLE, "another-worker")
    assert not is_zombie(run)
