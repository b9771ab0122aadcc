"""Alarms on a real Prefect server with all its services, as a webhook receives them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, State
from prefect.flow_engine import FlowRunEngine
from prefect.settings import PREFECT_UI_URL, temporary_settings
from prefect.settings.models.flows import FlowsSettings
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending, Running, Submitting

from flows.runtime.alarm_definitions import WAITS, Waits, lost_runs
from flows.runtime.alarms import has_alarms, set_alarms
from flows.runtime.crashed_runs import HOST, PID, STARTED, crash_zombie_runs, host_id, run_labels
from flows.runtime.notifications import WEBHOOK_VARIABLE
from flows.runtime.server import LocalServer
from flows.train import train
from mnist_bp.config import RunConfig
from mnist_bp.layout import run_directory
from mnist_bp.summary import RunSummary
from tests.deployments.conftest import Operation
from tests.support.raw_http import RawHttp, http
from tests.support.s3_servers import free_port
from tests.support.scripts import prefect_home
from tests.support.serving import REPOSITORY, Webhook, client_of, environment, read_run, wait_for, webhook
from tests.support.waiting import HANG_S, eventually

pytestmark = pytest.mark.slow

SCRIPT = REPOSITORY / "deployments" / "alarms.py"
SHORT = Waits(start=timedelta(seconds=20), heartbeat=timedelta(seconds=10))
RUN = "20261128-010203-abcdef"
ALARMS = 7


@dataclass
class Alarmed:
    """A Prefect server with alarms.

    Args:
        server: The server.
        webhook: Where its alarms arrive.
        variables: The environment of the operator.
        log: What the server prints.
        first: What the first `make alarms` printed.
        deployments: Ids of deployments, by name.
    """

    server: LocalServer
    webhook: Webhook
    variables: dict[str, str]
    log: Path
    first: str
    deployments: dict[str, UUID]

    def about(self, run: UUID) -> list[str]:
        """The messages that name a flow run."""
        return [text for text in self.webhook.texts if str(run) in text]

    def create_run(self, deployment: str, *states: State[Any]) -> UUID:
        """Create a run that has been scheduled for ten minutes, and let it pass through states.

        Prefect holds back the events of a run whose first state is less than five minutes old.
        """
        with get_client(sync_client=True) as client:
            run = client.create_flow_run_from_deployment(self.deployments[deployment]).id
        earlier = (datetime.now(UTC) - timedelta(minutes=10)).strftime("%Y-%m-%d %H:%M:%S.%f")
        database = Path(self.variables["PREFECT_HOME"], "prefect.db")
        with closing(sqlite3.connect(database, timeout=HANG_S)) as connection, connection:
            changed = connection.execute(
                "UPDATE flow_run_state SET timestamp = ? WHERE flow_run_id = ?", (earlier, str(run))
            )
            assert changed.rowcount == 1
        self.advance(run, *states)
        return run

    def advance(self, run: UUID, *states: State[Any]) -> None:
        """Let a run pass through states."""
        with get_client(sync_client=True) as client:
            for state in states:
                client.set_flow_run_state(run, state)

    def wait_for_earlier_alarms(self) -> None:
        """Wait for the alarm of a run that fails now."""
        run = self.create_run("nightly", Pending(), Running(), Failed())
        eventually(lambda: self.about(run), "no alarm for a run that failed")


def make_alarms(variables: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, "--json", *flags], env=variables, capture_output=True, text=True, timeout=HANG_S
    )


def start_server(variables: dict[str, str], port: int, log: Path) -> LocalServer:
    """Start a server with an environment; its stderr goes to a file."""
    with pytest.MonkeyPatch.context() as patch, log.open("wb") as file:
        for name in [name for name in os.environ if name not in variables]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            return LocalServer(port, with_ui=True)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


@pytest.fixture(scope="module")
def module_alarmed(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alarmed]:
    directory, port = tmp_path_factory.mktemp("alarmed"), free_port()
    often = {
        "PREFECT_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "5",
    }
    with webhook() as hook:
        variables = environment(
            prefect_home(directory, migrated_database),
            PREFECT_API_URL=f"http://127.0.0.1:{port}/api",
            MNIST_BP_WEBHOOK_URL=hook.url,
            **often,
        )
        log = directory / "server.log"
        with start_server(variables, port, log) as server, client_of(server.url, server.password):
            variables["PREFECT_API_AUTH_STRING"] = server.password
            first = make_alarms(variables)
            assert first.returncode == 0, first.stderr
            with get_client(sync_client=True) as client:
                flow = client.create_flow_from_name("mnist-bp")
                one = ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
                deployments = {
                    "train": client.create_deployment(flow, "train", concurrency_limit=1, concurrency_options=one),
                    "nightly": client.create_deployment(flow, "nightly"),
                }
            yield Alarmed(server, hook, variables, log, first.stdout, deployments)


@pytest.fixture
def alarmed(module_alarmed: Alarmed) -> Iterator[Alarmed]:
    """The server, as the one that this process's Prefect client uses."""
    with client_of(module_alarmed.server.url, module_alarmed.server.password):
        yield module_alarmed


def silences(alarmed: Alarmed) -> list[str]:
    return [text for text in alarmed.webhook.texts if "no nightly run has completed" in text]


def test_nights_that_do_not_complete_raise_an_alarm_also_if_none_ever_ran_and_each_completed_one_starts_the_time_again(
    alarmed: Alarmed,
) -> None:
    set_alarms(alarmed.webhook.url, Waits(completion=timedelta(seconds=12)))
    (never,) = eventually(lambda: silences(alarmed), "no alarm was raised before any run")
    assert "within 0.2 minutes" in never
    assert "the last that did" not in never
    first, last = (alarmed.create_run("nightly", Pending(), Running()) for _ in range(2))
    alarmed.advance(first, Completed())
    alarmed.advance(last, Completed())
    alarmed.create_run("train", Pending(), Running(), Completed())  # which is no night
    again = eventually(lambda: alarmed.about(last), "no alarm was raised after the last night")[0]
    set_alarms(alarmed.webhook.url, WAITS)
    assert again in silences(alarmed)
    assert f"http://127.0.0.1:{alarmed.server.port}/runs/flow-run/{last}" in again
    alarmed.wait_for_earlier_alarms()
    assert not alarmed.about(first)


def send_heartbeat(run: UUID) -> None:
    """Send what Prefect sends from time to time during a run of a deployment."""
    FlowRunEngine(flow=train, flow_run=read_run(run))._emit_flow_run_heartbeat()


def test_each_alarm_arrives_once_with_the_run_its_link_and_the_command_that_resumes_it(
    alarmed: Alarmed, tmp_path: Path
) -> None:
    set_alarms(alarmed.webhook.url, SHORT)
    labels = run_labels(run_directory("data", RUN), on_deployment=True)
    resume = f"resume it with: prefect deployment run mnist-bp/train --param resume={RUN}"
    started = alarmed.create_run("nightly")
    wait_for(started, "Late")
    alarmed.advance(started, Pending(), Running(), Completed())
    stopped = alarmed.create_run("nightly", Pending(), Running(), Cancelled(message="by hand"))
    late = alarmed.create_run("nightly")  # after those whose alarms would arrive before its own
    pending = alarmed.create_run("nightly", Pending(), Submitting())  # its worker was killed then
    lost = alarmed.create_run("train", Pending())
    overlapping = alarmed.create_run("train", Pending())
    beating = alarmed.create_run("nightly", Pending(), Running())
    send_heartbeat(beating)  # its last; the other lost run sends none
    failed = alarmed.create_run("nightly")
    with get_client(sync_client=True) as client:
        for run in (lost, failed):
            client.update_flow_run_labels(run, labels)
    alarmed.advance(lost, Running())
    alarmed.advance(failed, Pending(), Running(), Failed(message='StoreError: <a> & "b"'))
    assert read_run(overlapping).state_name == "Cancelled"

    runs = {"late": late, "pending": pending, "lost": lost, "overlapping": overlapping, "failed": failed}
    runs["beating"] = beating
    texts = {}
    for what, run in runs.items():
        texts[what] = eventually(lambda run=run: alarmed.about(run), f"no alarm: {what}")[0]  # type: ignore[misc]
    alarmed.wait_for_earlier_alarms()
    assert {what: len(alarmed.about(run)) for what, run in runs.items()} == dict.fromkeys(runs, 1)
    assert not alarmed.about(started), "it started in time"
    assert not alarmed.about(stopped), "it was stopped by hand"
    for what, run in runs.items():
        assert texts[what].startswith("mnist-bp: a run ")
        assert f"http://127.0.0.1:{alarmed.server.port}/runs/flow-run/{run}" in texts[what]
        resumable = what in ("lost", "failed")
        assert (f"run {RUN}, flow run {read_run(run).name} ({run}) of mnist-bp/" in texts[what]) is resumable
        assert (resume in texts[what]) is resumable
    assert "has not been started" in texts["late"]
    assert "has not begun after" in texts["pending"]
    for what in ("lost", "beating"):
        assert "Crashed: It has sent no heartbeat for" in texts[what]
    assert "because another run of its deployment was in progress" in texts["overlapping"]
    assert 'Failed: StoreError: &lt;a&gt; &amp; "b"' in texts["failed"]


def test_a_killed_run_whose_deployment_lost_its_limit_is_marked_and_reported_once_though_the_server_refused_its_state(
    alarmed: Alarmed,
) -> None:
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name("mnist-bp")
        for name in ("deleted", "unlimited"):
            alarmed.deployments[name] = client.create_deployment(flow, name, concurrency_limit=1)
        runs = {alarmed.create_run(name, Pending(), Running()) for name in ("deleted", "unlimited")}
        client.delete_deployment(alarmed.deployments["deleted"])
        client.update_deployment(alarmed.deployments["unlimited"], DeploymentUpdate(concurrency_limit=None))
        for run in [*runs, *runs]:  # as a worker does, twice
            with pytest.raises(httpx.HTTPStatusError, match="500"):
                client.set_flow_run_state(run, Crashed(message="refused"))
        for run in runs:
            client.update_flow_run_labels(run, {HOST: host_id(), PID: 2**22 + 1, STARTED: 0.0})  # no such process
    assert {(zombie.run.id, zombie.refusal) for zombie in crash_zombie_runs()} == {(run, None) for run in runs}
    assert {read_run(run).state_name for run in runs} == {"Crashed"}
    assert crash_zombie_runs() == []
    alarmed.wait_for_earlier_alarms()
    assert [len(alarmed.about(run)) for run in runs] == [1, 1]


def test_a_run_that_is_not_promoted_or_fails_is_reported_by_the_alarm_alone(
    alarmed: Alarmed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, alarmed.webhook.url)
    assert has_alarms()
    small = RunConfig(dataset="mnist-sample", steps=60, checkpoint_every=30, seed=7)
    champion = train(small)
    kept = train(small.model_copy(update={"steps": 1, "checkpoint_every": 1}))
    assert isinstance(champion, RunSummary)
    assert isinstance(kept, RunSummary)
    (text,) = eventually(lambda: [text for text in alarmed.webhook.texts if kept.run_id in text], "no alarm")
    assert f"{kept.run_id} does not replace the champion of mnist-sample: " in text
    assert text.count(f"accuracy {kept.accuracy:.4f}, champion's {champion.accuracy:.4f}") == 1
    assert "/runs/flow-run/" in text
    assert text.count("accuracy") == 1 + text.count("lowest accuracy")
    assert "resume" not in text
    assert not [text for text in alarmed.webhook.texts if champion.run_id in text]

    head = max(Path("artifacts/champion/mnist-sample").glob("*.json"))
    head.write_bytes(head.read_bytes()[:-9])
    refused = train(small)
    (text,) = eventually(lambda: [text for text in alarmed.webhook.texts if refused.run_id in text], "no alarm")
    assert f"{refused.run_id} could not challenge the champion of mnist-sample: " in text
    assert f"(accuracy {champion.accuracy:.4f}, champion's unknown)" in text
    assert f"resume it with: mnist-bp train --resume {refused.run_id}" in text

    with pytest.raises(Exception, match="no run of that id"):
        train(small, resume="20200101-000000-000000")
    with get_client(sync_client=True) as client:
        (failed,) = [run for run in client.read_flow_runs() if run.state_name == "Failed" and not run.deployment_id]
    (text,) = eventually(lambda: alarmed.about(failed.id), "no alarm")
    assert "Failed: " in text
    assert len(alarmed.about(failed.id)) == 1


def test_a_script_with_a_separate_server_posts_to_the_webhook_though_the_database_has_alarms(
    alarmed: Alarmed, tmp_path: Path
) -> None:
    variables = {**alarmed.variables, "PREFECT_API_URL": "", "MNIST_BP_MIRRORS": "http://127.0.0.1:9/"}
    command = [sys.executable, str(REPOSITORY / "flows" / "train.py"), "--dataset", "fashion-mnist"]
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 1, done.stderr
    texts = [text for text in alarmed.webhook.texts if "fashion-mnist" in text]
    assert [text.partition(": ")[0] for text in texts] == ["mnist-bp"], texts


def test_making_the_alarms_again_makes_no_duplicates_and_keeps_what_the_operator_paused(alarmed: Alarmed) -> None:
    assert set(json.loads(alarmed.first)["alarms"].values()) == {"created"}
    with temporary_settings({PREFECT_UI_URL: "https://prefect.example"}):
        set_alarms(alarmed.webhook.url)
    with get_client(sync_client=True) as client:
        links = [each for each in client.read_automations() if "https://prefect.example" in each.model_dump_json()]
        assert len(links) == ALARMS - 1  # one posts nothing
    set_alarms(alarmed.webhook.url)
    with get_client(sync_client=True) as client:
        before = client.read_automations()
        assert len(before) == ALARMS
        client.pause_automation(before[0].id)
    again = make_alarms(alarmed.variables)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["alarms"] == {each.name: "unchanged" for each in before}
    assert set(set_alarms(alarmed.webhook.url, SHORT).values()) == {"updated", "unchanged"}
    with get_client(sync_client=True) as client:
        after = client.read_automations()
        assert {each.id: each.enabled for each in after} == {each.id: each is not before[0] for each in before}
        client.resume_automation(before[0].id)


def test_a_webhook_that_is_down_fails_nothing_and_alarms_arrive_again_once_it_is_up(alarmed: Alarmed) -> None:
    def failed_actions() -> list[Any]:
        asked = {"filter": {"event": {"name": ["prefect.automation.action.failed"]}}}
        with get_client(sync_client=True) as client:
            found: list[Any] = client.request("POST", "/events/filter", json=asked).json()["events"]
        return found

    set_alarms("http://127.0.0.1:9/services/secret")
    unheard = alarmed.create_run("nightly", Pending(), Running(), Failed())
    (event,) = eventually(failed_actions, "the server has not tried")
    assert "Webhook call failed" in event["payload"]["reason"]
    set_alarms(alarmed.webhook.url)
    heard = alarmed.create_run("nightly", Pending(), Running(), Failed())
    eventually(lambda: alarmed.about(heard), "no alarm")
    assert not alarmed.about(unheard)


def test_the_webhooks_address_is_in_no_log_no_event_and_not_readable_in_the_database(alarmed: Alarmed) -> None:
    heard = alarmed.create_run("nightly", Pending(), Running(), Failed())
    eventually(lambda: alarmed.about(heard), "no alarm")
    done = make_alarms(alarmed.variables)
    assert done.returncode == 0
    assert "127.0.0.1" in done.stderr
    home = Path(alarmed.variables["PREFECT_HOME"])
    kept = b"".join(path.read_bytes() for path in home.glob("prefect.db*"))
    assert b"mnist-bp-alarms" in kept
    for text in (kept, alarmed.log.read_bytes(), done.stdout.encode(), done.stderr.encode()):
        assert b"services/secret" not in text


def test_without_a_webhook_lost_runs_are_marked_and_runs_post_by_themselves(operation: Operation) -> None:
    done = make_alarms(operation.variables, "--without-webhook")
    with get_client(sync_client=True) as client:
        (made,) = client.read_automations_by_name(lost_runs().name)
        posted_by_the_server = has_alarms()
        client.delete_automation(made.id)
    assert done.stderr.splitlines()[1:] == ["webhook     none", f"created     {made.name}"]
    assert not posted_by_the_server


def test_the_alarm_for_lost_machines_waits_for_several_heartbeats() -> None:
    assert WAITS.heartbeat.total_seconds() >= 3 * FlowsSettings.model_fields["heartbeat_frequency"].default


@pytest.mark.parametrize(
    ("variables", "code", "parts"),
    [
        ({}, 2, ["MNIST_BP_WEBHOOK_URL is not set", "such as https://"]),
        ({"MNIST_BP_WEBHOOK_URL": "hooks/secret"}, 2, ["MNIST_BP_WEBHOOK_URL: expected an address"]),
        ({"MNIST_BP_WEBHOOK_URL": "http://a/secret"}, 1, ["no Prefect server is configured", "make serve"]),
    ],
)
def test_what_is_missing_is_named_in_one_line(
    variables: dict[str, str], code: int, parts: list[str], tmp_path: Path
) -> None:
    refused = make_alarms(environment(tmp_path, **variables))
    (line,) = refused.stderr.splitlines()
    assert (refused.returncode, refused.stdout) == (code, "")
    assert line.startswith("error: ")
    assert "secret" not in line
    for part in parts:
        assert part in line


def test_a_server_that_refuses_alarms_is_named_in_one_line(tmp_path: Path) -> None:
    with RawHttp(http("401 Unauthorized", b"{}")) as server:
        variables = environment(
            tmp_path, PREFECT_API_URL=f"{server.endpoint}/api", MNIST_BP_WEBHOOK_URL="http://a/secret"
        )
        refused = make_alarms(variables)
    (line,) = refused.stderr.splitlines()
    assert refused.returncode == 1
    assert "refuses requests (HTTP 401): set PREFECT_API_AUTH_STRING" in line
