"""The progress of a stage in Prefect's UI: its requests, counted on the way to a real server."""

from __future__ import annotations

import pytest
from prefect import flow, get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.ui import progress
from tests.support.fault_proxy import SLOW_DOWN, Fault, FaultProxy
from tests.support.prefect_records import artifacts_of, newest_flow_run

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
    """Count on a clock that each step moves on by 10 ms."""
    passed = 0.0
    with progress("count", lambda: passed) as on_progress:
        for step in range(round(100 * seconds)):
            on_progress(passed, seconds, f"step {step}")
            passed += 0.01


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
    assert len(methods) == 4  # after 1, 2 and 3 s, and at the end
    shown = artifacts_of(newest_flow_run())["count-progress"]
    assert (shown.data, shown.description) == (100.0, "count: 4 of 4")


def test_a_server_that_refuses_artifacts_gets_one_request_and_the_stage_goes_on() -> None:
    assert count(4, SLOW_DOWN) == ["POST"]
    assert newest_flow_run().state_name == "Completed"


def test_a_server_that_fails_later_gets_no_further_request() -> None:
    methods = count(4, SLOW_DOWN, after=1)
    assert methods == ["POST", "PATCH"]
    assert newest_flow_run().state_name == "Completed"
