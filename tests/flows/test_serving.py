"""Serving deployments until a signal."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types.entrypoint import EntrypointType

from flows.runtime.serving import keep_pauses, report_interrupted_runs, run_until_interrupted
from flows.train import train
from tests.support.raw_http import RawHttp, http
from tests.support.waiting import under_load

pytestmark = pytest.mark.usefixtures("prefect_server", "own_signals")


class Garbage:
    """Something that can be referred to weakly."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_arrives_in_the_callback_of_a_weak_reference_is_not_lost(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python ignores what such a callback raises, a KeyboardInterrupt too."""
    lost = threading.Timer(under_load(20), os.kill, [os.getpid(), signal.SIGINT])

    def signal_in_a_callback() -> None:
        lost.start()
        garbage = Garbage()
        reference = weakref.ref(garbage, lambda _: signal.raise_signal(number))
        del garbage
        assert reference() is None

    try:
        run_until_interrupted([], signal_in_a_callback)
        assert lost.is_alive(), "the first signal had no effect"
    finally:
        lost.cancel()
    assert "no run was in progress" in capsys.readouterr().err


def test_a_server_that_refuses_at_the_end_is_not_called_one_that_does_not_reply(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with (
        RawHttp(http("500 Internal Server Error", b"{}")) as server,
        temporary_settings({PREFECT_API_URL: f"{server.endpoint}/api"}),
    ):
        report_interrupted_runs()
    line = "error: Prefect's server refuses requests (HTTP 500); for interrupted runs, see mnist-bp runs\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("active", [True, False])
def test_a_schedule_that_has_another_name_after_an_update_is_paused_if_it_was(active: bool) -> None:
    yearly = CronSchedule(cron="0 4 1 1 *", timezone="UTC")

    def served(schedule: DeploymentScheduleCreate) -> RunnerDeployment:
        module = EntrypointType.MODULE_PATH
        return RunnerDeployment.from_flow(train, f"served-{active}", entrypoint_type=module, schedules=[schedule])

    earlier = served(DeploymentScheduleCreate(schedule=yearly, active=active)).apply()
    assert isinstance(earlier, UUID)
    updated = served(DeploymentScheduleCreate(schedule=yearly, slug="nightly"))
    keep_pauses(updated)
    updated.apply()
    with get_client(sync_client=True) as client:
        schedules = client.read_deployment(earlier).schedules
    assert [(schedule.slug, schedule.active) for schedule in schedules] == [("nightly", active)]
