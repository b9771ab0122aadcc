"""Which runs are known to be dead: only those whose own process is known to be gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any
from uuid import uuid4

import psutil
import pytest
from prefect.client.schemas.objects import FlowRun

from flows.runtime.crashed_runs import HOST, PID, STARTED, _host, is_zombie


def signed() -> FlowRun:
    """A run signed by this very process."""
    labels = {HOST: _host(), PID: os.getpid(), STARTED: psutil.Process().create_time()}
    return FlowRun(flow_id=uuid4(), labels=labels)


def test_a_run_whose_process_lives_is_not_dead() -> None:
    assert not is_zombie(signed())


def test_a_run_whose_process_ended_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    labels = {HOST: _host(), PID: process.pid, STARTED: psutil.Process(process.pid).create_time()}
    run = FlowRun(flow_id=uuid4(), labels=labels)
    assert not is_zombie(run)
    process.kill()
    time.sleep(0.2)
    assert is_zombie(run)  # a zombie: nobody has asked for its exit code yet
    process.communicate()
    assert is_zombie(run)


def test_a_run_whose_process_number_another_process_has_by_now_is_dead() -> None:
    run = signed()
    run.labels[STARTED] = psutil.Process().create_time() - 60
    assert is_zombie(run)


@pytest.mark.parametrize("labels", [{}, {HOST: "another"}, {PID: "12"}, {STARTED: None}])
def test_of_a_run_that_was_signed_elsewhere_or_not_at_all_nothing_is_known(labels: dict[str, Any]) -> None:
    run = signed()
    run.labels.update({PID: 2**22 + 1})  # no such process
    assert is_zombie(run)
    if labels:
        run.labels.update(labels)
    else:
        run.labels.clear()
    assert not is_zombie(run)
