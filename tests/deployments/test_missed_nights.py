"""Thirty nights on a real server, with workers that are killed and away at random: no night is lost without an alarm.

A real schedule creates the runs of thirty days. Time is simulated in Prefect's database: every few seconds one more
night becomes due, with a date of the past, as the first state of its run, because Prefect holds back the events of runs
that were scheduled less than five minutes before.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import psutil
import pytest
import yaml
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from flows.runtime.alarm_definitions import Waits
from flows.runtime.alarms import set_alarms
from flows.runtime.nights import SUPERSEDED
from flows.runtime.server import LocalServer
from tests.support.scripts import prefect_home
from tests.support.serving import REPOSITORY, Webhook, client_of, environment, webhook
from tests.support.waiting import HANG_S, eventually
from tests.support.workers import Worker

pytestmark = pytest.mark.slow

NIGHTS: Final = 30
STEP_S: Final = 3.0
"""Seconds from one night to the next."""

BACK: Final = timedelta(days=NIGHTS + 5)
"""From the date on which Prefect scheduled a run to the date on which it is due in this test."""

KILLS: Final = 3
RANDOM_SEED: Final = 14


@dataclass
class Nights:
    """A server, the runs of thirty nights, and a worker that comes and goes.

    Args:
        variables: The environment of the operator.
        directory: Directory with the data and artifacts of the workers.
        webhook: Receiver of the alarms.
        runs: The runs, in order of their due date.
        workers: The workers that were started.
        orphans: Runs of workers that were killed.
    """

    variables: dict[str, str]
    directory: Path
    webhook: Webhook
    runs: list[FlowRun]
    workers: list[Worker] = field(default_factory=list)
    orphans: list[psutil.Process] = field(default_factory=list)

    def start_worker(self) -> Worker:
        """Start a worker that publishes to the directory."""
        self.workers.append(Worker(self.variables, self.directory))
        return self.workers[-1]

    def kill(self, worker: Worker, *, with_runs: bool) -> None:
        """Kill a worker, as `kill -9` does."""
        self.orphans += worker.kill(with_runs=with_runs)

    def states(self) -> dict[str, FlowRun]:
        """Return the runs as they are, by id."""
        ids = {run.id for run in self.runs}
        return {str(run.id): run for run in nightly_runs() if run.id in ids}

    def unaccounted(self) -> list[tuple[str, str | None]]:
        """List the nights that have neither ended well nor raised an alarm, or that a worker may still run."""
        alarms = " ".join(self.webhook.texts)
        return [
            (run_id, run.state_name)
            for run_id, run in self.states().items()
            if run.state_name not in ("Completed", SUPERSEDED)
            and (run_id not in alarms or run.state_type not in (StateType.CRASHED, StateType.FAILED, StateType.PENDING))
        ]

    def end(self) -> None:
        """End every process."""
        for worker in self.workers:
            worker.kill()
        for orphan in self.orphans:
            with suppress(psutil.NoSuchProcess):
                orphan.kill()


def nightly_runs() -> list[FlowRun]:
    """Return the runs of the nightly deployment, in order of their due time."""
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("mnist-bp/nightly")
        only = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[nightly.id]))
        return client.read_flow_runs(flow_run_filter=only, sort=FlowRunSort.EXPECTED_START_TIME_ASC)


def deploy(variables: dict[str, str], directory: Path) -> None:
    """Deploy the nightly of `prefect.yaml`, with short trainings, and a schedule that comes due in half a day."""
    definition = yaml.safe_load((REPOSITORY / "deployments" / "prefect.yaml").read_text())
    (nightly,) = [each for each in definition["deployments"] if each["name"] == "nightly"]
    nightly["parameters"]["config"] = {"dataset": "mnist-sample", "steps": 20, "engine": "reference"}
    nightly["schedules"][0]["cron"] = f"30 {(datetime.now(UTC) + timedelta(hours=12)).hour} * * *"
    file = directory / "prefect.yaml"
    file.write_text(yaml.safe_dump({**definition, "deployments": [nightly]}))
    command = [sys.executable, str(REPOSITORY / "deployments" / "deploy.py"), "--file", str(file)]
    done = subprocess.run(command, env=variables, cwd=directory, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def nights(migrated_database: Path, warm_caches: None, tmp_path: Path) -> Iterator[Nights]:
    """A server with alarms, and a schedule that has created thirty runs."""
    home = prefect_home(tmp_path, migrated_database)
    settings = environment(
        home,
        PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS=str(NIGHTS),
        PREFECT_SERVER_SERVICES_SCHEDULER_MAX_RUNS=str(NIGHTS),
        PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS="5",
        PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS="2",
        PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION="30",
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30",
    )
    with pytest.MonkeyPatch.context() as patch, webhook() as hook:
        for name, value in settings.items():
            patch.setenv(name, value)
        with LocalServer(with_ui=True) as server:
            patch.undo()
            variables = {**settings, "PREFECT_API_URL": server.url, "PREFECT_API_AUTH_STRING": server.password}
            with client_of(server.url, server.password):
                set_alarms(hook.url, Waits(start=timedelta(seconds=10), heartbeat=timedelta(seconds=90)))
                deploy(variables, tmp_path)
                runs = eventually(lambda: found if len(found := nightly_runs()) >= NIGHTS else None, "no 30 runs")
                nights = Nights(variables, tmp_path, hook, runs[:NIGHTS])
                try:
                    yield nights
                finally:
                    nights.end()


def make_due(nights: Nights, run: FlowRun) -> None:
    """Let a run be due now, with a date of the past, and as scheduled a day ago."""
    assert run.expected_start_time is not None
    now = datetime.now(UTC)
    stored, yesterday = (f"{time:%Y-%m-%d %H:%M:%S.%f}" for time in (now, now - timedelta(days=1)))
    due = f"{run.expected_start_time - BACK:%Y-%m-%d %H:%M:%S.%f}"
    with (
        closing(sqlite3.connect(Path(nights.variables["PREFECT_HOME"], "prefect.db"), timeout=HANG_S)) as connection,
        connection,
    ):
        connection.execute(
            "UPDATE flow_run_state SET timestamp = ?, state_details = json_set(state_details, '$.scheduled_time', ?) "
            "WHERE flow_run_id = ?",
            (yesterday, now.isoformat().replace("+00:00", "Z"), str(run.id)),
        )
        changed = connection.execute(
            "UPDATE flow_run SET state_timestamp = ?, next_scheduled_start_time = ?, expected_start_time = ? "
            "WHERE id = ? AND state_name = 'Scheduled'",
            (yesterday, stored, due, str(run.id)),
        )
        assert changed.rowcount == 1


@contextmanager
def passing_time(nights: Nights) -> Iterator[threading.Thread]:
    """Let the nights become due one by one, in a thread that ends with the last night or this context."""
    stop = threading.Event()

    def pass_time() -> None:
        for run in nights.runs:
            make_due(nights, run)
            if stop.wait(STEP_S):
                return

    clock = threading.Thread(target=pass_time)
    clock.start()
    try:
        yield clock
    finally:
        stop.set()
        clock.join()


def kill_workers(nights: Nights) -> None:
    """Start workers and kill them: the first with a run that it has just started, the others at random."""

    def in_progress() -> bool:
        return any(run.state_name == "Running" for run in nights.states().values())

    draw = random.Random(RANDOM_SEED)
    for number in range(KILLS):
        worker = nights.start_worker()
        if number % 2 == 0:  # a run is in progress; otherwise, the worker dies at any moment
            eventually(in_progress, "no run starts")
        if number == 0:
            nights.kill(worker, with_runs=True)
        else:
            time.sleep(draw.uniform(0, 6))
            nights.kill(worker, with_runs=draw.random() < 0.8)
        time.sleep(draw.uniform(0, 12))


def test_thirty_nights_with_workers_that_are_killed_run_once_are_superseded_or_raise_an_alarm(nights: Nights) -> None:
    with passing_time(nights) as clock:
        kill_workers(nights)
        clock.join()
    nights.start_worker()
    eventually(lambda: not nights.unaccounted(), "a night has neither ended well nor raised an alarm")

    runs = list(nights.states().values())
    dates = [run.expected_start_time.date() for run in runs if run.expected_start_time is not None]
    assert len(set(dates)) == NIGHTS
    states = Counter(run.state_name for run in runs)
    seeds = [json.loads(file.read_text())["seed"] for file in nights.directory.glob("artifacts/runs/*/manifest.json")]
    assert len(seeds) == len(set(seeds)), (states, sorted(seeds))
    completed = {int(f"{run.expected_start_time:%Y%m%d}") for run in runs if run.state_name == "Completed"}
    assert completed <= set(seeds)
    assert states["Completed"] >= 1
    assert states[SUPERSEDED] >= 1
    assert states["Crashed"] >= 1
    assert runs[-1].state_name == "Completed"
