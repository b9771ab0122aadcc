"""The progress of a stage in Prefect's UI: its requests, counted on the way to a real server."""

from __future__ import annotations

import time

import pytest
from prefect import flow, get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.ui import progress
from tests.support.fault_proxy import SLOW_DOWN, Fault, FaultProxy
from tests.support.prefect_records import artifacts_of, newest_flow_run
from tests.support.waiting import under_load

pytestmark = pytest.mark.usefixtures("prefect_server")


class ArtifactsProxy(FaultProxy):
    """A proxy to Prefect's server that injects a fault into requests for artifacts, after the first `after` of them."""

    fault: Fault | None = None
    after = 0

    def draw(self, method: str, path: str) -> Fault | None:
        fault = self.fault if path.startswith("/api/artifacts/") and len(self.methods()) >= self.after else None
        self.requests.append((method, path, fault))
        return fault

    def methods(self) -> list[str]:
        """Methods of the requests about artifacts."""
        return [method for method, path, _ in self.requests if path.startswith("/api/artifacts/")]


@task(cache_policy=NO_CACHE)
def count_for(seconds: float) -> None:
    began, step = time.monotonic(), 0
    with progress("count") as on_progress:
        while (passed := time.monotonic() - began) < seconds:
            step += 1
            on_progress(100 * passed / seconds, 100, f"step {step}")
            time.sleep(0.01)


@flow
def counting(seconds: float) -> None:
    count_for(seconds)


def count(seconds: float, fault: Fault | None = None, after: int = 0) -> list[str]:
    """Let a flow count, and return the methods of its requests about artifacts."""
    with get_client(sync_client=True) as client:
        upstream = str(client.api_url).removesuffix("/").removesuffix("/api")
    with ArtifactsProxy(upstream) as proxy, temporary_settings({PREFECT_API_URL: f"{proxy.endpoint}/api"}):
        proxy.fault, proxy.after = fault, after
        counting(seconds)
        return proxy.methods()


def test_a_short_stage_sends_no_request() -> None:
    assert count(0.5) == []


def test_a_longer_stage_is_updated_about_once_a_second_and_ends_at_100_percent() -> None:
    methods = count(3.5)
    assert methods[0] == "POST"
    assert set(methods[1:]) == {"PATCH"}
    assert 3 <= len(methods) <= 4
    shown = artifacts_of(newest_flow_run())["count-progress"]
    assert (shown.data, shown.description) == (100.0, "count: 100 of 100")


def test_a_server_that_refuses_artifacts_gets_one_request_and_does_not_delay_the_stage() -> None:
    began = time.monotonic()
    assert count(4, SLOW_DOWN) == ["POST"]  # a refused request takes 2 s
    assert time.monotonic() - began < under_load(10)
    assert newest_flow_run().state_name == "Completed"


def test_a_server_that_fails_later_gets_no_further_request() -> None:
    methods = count(4, SLOW_DOWN, after=1)
    assert methods == ["POST", "PATCH"]
    assert newest_flow_run().state_name == "Completed"
