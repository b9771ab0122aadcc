"""Progress and labels of a run in Prefect's UI: their requests, counted on the way to a real server."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID

import pytest
from prefect import flow, get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.ui import label_flow_run, progress
from tests.support.fault_proxy import SLOW_DOWN, Fault, FaultProxy
from tests.support.prefect_records import artifacts_of, newest_flow_run

pytestmark = pytest.mark.usefixtures("prefect_server")


LABELS = {"mnist-bp.run-id": "20260101T000000Z-00000000", "mnist-bp.pid": 7}


class LabelsProxy(FaultProxy):
    """A proxy to Prefect's server that answers the first `refusals` requests for labels with HTTP 503."""

    refusals = 0

    def draw(self, method: str, path: str) -> Fault | None:
        refused = path.endswith("/labels") and self.refusals > 0
        self.refusals -= refused
        self.requests.append((method, path, None))
        return SLOW_DOWN if refused else None


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


def api_root() -> str:
    """Address of the server, without /api."""
    with get_client(sync_client=True) as client:
        return str(client.api_url).removesuffix("/").removesuffix("/api")


def count(seconds: float, fault: Fault | None = None, after: int = 0) -> list[str]:
    """Let a flow count, and return the methods of its requests about artifacts."""
    with ArtifactsProxy(api_root()) as proxy, temporary_settings({PREFECT_API_URL: f"{proxy.endpoint}/api"}):
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


@flow
def labelled() -> None:
    run_id = flow_run.id
    assert run_id is not None
    label_flow_run(UUID(run_id), LABELS)


def test_labels_that_a_busy_server_refuses_arrive_without_the_two_seconds_of_prefects_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    with LabelsProxy(api_root()) as proxy, temporary_settings({PREFECT_API_URL: f"{proxy.endpoint}/api"}):
        proxy.refusals = 4
        monkeypatch.setattr("prefect.client.base.time", SimpleNamespace(sleep=pauses.append))
        labelled()
        sent = [path for _, path, _ in proxy.requests if path.endswith("/labels")]
    assert len(pauses) == len(sent) - 1 >= 4  # more if the server itself refuses, while it records an event
    assert sum(pauses[:4]) < 2
    assert newest_flow_run().labels.items() >= LABELS.items()
