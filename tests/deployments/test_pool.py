"""A work pool on a real Prefect server, with workers in several directories, as an operator runs it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect import get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentScheduleUpdate,
    DeploymentUpdate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from flows.runtime.nights import SUPERSEDED
from flows.runtime.server import LocalServer
from tests.support.scripts import prefect_home
from tests.support.serving import REPOSITORY, client_of, environment, hide_packages, read_run, start_run, wait_for
from tests.support.waiting import HANG_S, eventually
from tests.support.workers import PREFECTS, Worker

pytestmark = pytest.mark.slow

POOL = "mnist-bp"
SMALL = {"dataset": "mnist-sample", "steps": 60, "checkpoint_every": 30}


@dataclass(frozen=True)
class Pool:
    """A server with a pool to which both deployments are deployed.

    Args:
        variables: The environment of its clients.
        deployed: What `deploy.py` printed.
    """

    variables: dict[str, str]
    deployed: str


@pytest.fixture(scope="module")
def pool(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A pool that was deployed to from a directory that is removed afterwards."""
    home = prefect_home(tmp_path_factory.mktemp("pool"), migrated_database)
    deployer = tmp_path_factory.mktemp("deployer")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(home).items():
            patch.setenv(name, value)
        with LocalServer(with_ui=True) as server:
            patch.undo()
            variables = environment(
                home,
                PREFECT_API_URL=server.url,
                PREFECT_API_AUTH_STRING=server.password,
            )
            places = {"MNIST_BP_DATA_DIR": str(deployer / "data"), "MNIST_BP_ARTIFACTS": str(deployer / "artifacts")}
            done = deploy({**variables, **places}, deployer)
            assert done.returncode == 0, done.stderr
            shutil.rmtree(deployer)
            with client_of(server.url, server.password):
                yield Pool(variables, done.stderr)


def deploy(variables: Mapping[str, str], cwd: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Call `deploy.py`, as an operator does."""
    command = [sys.executable, str(REPOSITORY / "deployments" / "deploy.py"), *flags]
    return subprocess.run(command, env=dict(variables), cwd=cwd, capture_output=True, text=True, timeout=HANG_S)


def worker(pool: Pool, directory: Path, *flags: str) -> Worker:
    """Start Prefect's own worker in a directory that has modules of our names."""
    directory.mkdir(exist_ok=True)
    hide_packages(directory)
    return Worker(pool.variables, directory, "--pool", POOL, *flags, program=PREFECTS)


def deployment_id(name: str) -> UUID:
    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(f"mnist-bp/{name}").id


def manifests(directory: Path) -> list[Path]:
    return sorted(directory.glob("artifacts/runs/*/manifest.json"))


def form(deployment: str) -> dict[str, Any]:
    """Return every field that the form of the UI shows for the configuration, with what it shows, to be sent."""
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(f"mnist-bp/{deployment}")
    schema = found.parameter_openapi_schema
    assert schema is not None
    fields = schema["definitions"]["RunConfig"]["properties"]
    shown = {**schema["properties"]["config"]["default"], **found.parameters.get("config", {})}
    return {name: shown.get(name, field.get("default")) for name, field in fields.items()}


def test_two_workers_in_two_directories_run_what_the_form_sends_and_publish_where_each_of_them_says(
    pool: Pool, tmp_path: Path
) -> None:
    assert "mnist-bp: made, of type process" in " ".join(pool.deployed.split())
    sent = form("train")
    assert {"data_dir", "artifacts", "steps", "seed"} <= set(sent)
    directories = [tmp_path / "one", tmp_path / "two"]
    for seed, directory in enumerate(directories):
        elsewhere = {"working_dir": str(directory)} if seed else None  # as an operator may set it for the pool
        run_id = start_run("train", {"config": {**sent, **SMALL, "seed": seed}}, elsewhere)
        with worker(pool, directory, "--run-once") as once:
            assert once.process.wait(HANG_S) == 0
            assert read_run(run_id).state_name == "Completed", once.text
    for directory in directories:
        (manifest,) = manifests(directory)
        assert (manifest.parent / "report.html").exists()
        assert json.loads(manifest.read_text())["config"]["artifacts"] == str(directory / "artifacts")


def test_another_deploy_leaves_what_an_operator_changed(pool: Pool, tmp_path: Path) -> None:
    train, nightly = deployment_id("train"), deployment_id("nightly")
    with get_client(sync_client=True) as client:
        (schedule,) = client.read_deployment(nightly).schedules
        client.update_deployment_schedule(nightly, schedule.id, active=False)
        client.update_deployment(train, DeploymentUpdate(paused=True))
        client.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=3))
        yearly = CronSchedule(cron="0 4 1 1 *", timezone="UTC")
        (added,) = client.create_deployment_schedules(train, [DeploymentScheduleCreate(schedule=yearly)])
    try:
        done = deploy({**pool.variables, "PREFECT_DEPLOYMENTS_CLEAR_SCHEDULES_ON_EMPTY": "true"}, tmp_path)
        assert done.returncode == 0, done.stderr
        assert "mnist-bp: exists, of type process; left as it is" in done.stderr
        with get_client(sync_client=True) as client:
            assert [each.active for each in client.read_deployment(nightly).schedules] == [False]
            assert client.read_deployment(train).paused
            assert [each.schedule for each in client.read_deployment(train).schedules] == [yearly]
            assert not client.read_deployment(nightly).paused
            assert client.read_work_pool(POOL).concurrency_limit == 3
        assert "mnist-bp/train; paused\n" in done.stderr
        assert "mnist-bp/nightly; paused: 0 2 * * *\n" in done.stderr
    finally:
        with get_client(sync_client=True) as client:
            client.update_deployment_schedule(nightly, schedule.id, active=True)
            client.delete_deployment_schedule(train, added.id)
            client.update_deployment(train, DeploymentUpdate(paused=False))
            client.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=None))


def due_runs() -> list[FlowRun]:
    """The due runs of the nightly, in order of their due time."""
    nightly, now = deployment_id("nightly"), datetime.now(UTC)
    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_flow_runs() if run.deployment_id == nightly and run.auto_scheduled]
    due = [run for run in runs if run.expected_start_time is not None and run.expected_start_time < now]
    return sorted(due, key=lambda run: str(run.expected_start_time))


def test_after_missed_nights_the_latest_trains_and_the_earlier_ones_are_superseded(pool: Pool, tmp_path: Path) -> None:
    nightly = deployment_id("nightly")
    parameters = {"config": SMALL, "timezone": "UTC"}
    with get_client(sync_client=True) as client:
        (schedule,) = client.read_deployment(nightly).schedules
        often = IntervalSchedule(interval=timedelta(seconds=1), anchor_date=datetime.now(UTC))
        client.update_deployment(nightly, DeploymentUpdate(parameters=parameters))
        client.update_deployment_schedule(nightly, schedule.id, active=True, schedule=often)
        eventually(lambda: len(due_runs()) > 5, "no nights are missed")
        client.update_deployment_schedule(
            nightly, schedule.id, active=False, schedule=CronSchedule(cron="0 2 * * *", timezone="UTC")
        )
    *earlier, latest = due_runs()
    with worker(pool, tmp_path / "worker") as process:
        wait_for(latest.id, "Completed")
        for run in earlier:
            ended = wait_for(run.id, SUPERSEDED)
            assert str(latest.id) in str(ended.state and ended.state.message)
        process.stop()
        assert "Traceback" not in process.text
    (manifest,) = manifests(tmp_path / "worker")
    assert latest.expected_start_time is not None
    assert json.loads(manifest.read_text())["seed"] == int(f"{latest.expected_start_time:%Y%m%d}")


def test_runs_of_two_schedules_with_other_parameters_that_are_due_at_once_both_train(
    pool: Pool, tmp_path: Path
) -> None:
    nightly = deployment_id("nightly")
    soon = datetime.now(UTC) + timedelta(seconds=20)  # so that the server has time to schedule them
    before = len(due_runs())
    schedules = [
        DeploymentScheduleUpdate(
            schedule=IntervalSchedule(interval=timedelta(days=300), anchor_date=soon + timedelta(seconds=steps / 90)),
            active=True,
            slug=f"steps-{steps}",
            parameters={"config": {**SMALL, "steps": steps}, "timezone": "UTC"},
        )
        for steps in (60, 90)
    ]
    with get_client(sync_client=True) as client:
        client.update_deployment(nightly, DeploymentUpdate(schedules=schedules))
        added = [each for each in client.read_deployment(nightly).schedules if str(each.slug).startswith("steps-")]
    try:
        *_, first, second = eventually(
            lambda: due if len(due := due_runs()) == before + 2 else None, "they are not due"
        )
        with worker(pool, tmp_path / "worker"):
            wait_for(first.id, "Completed")
            wait_for(second.id, "Completed")
    finally:
        with get_client(sync_client=True) as client:
            for each in added:
                client.delete_deployment_schedule(nightly, each.id)
    trained = {json.loads(file.read_text())["config"]["steps"] for file in manifests(tmp_path / "worker")}
    assert trained == {60, 90}


def test_the_deployment_of_the_readme_publishes_to_its_store_and_keeps_its_parameters_when_it_is_deployed_again(
    pool: Pool, tmp_path: Path
) -> None:
    page = (REPOSITORY / "deployments" / "README.md").read_text()
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (deployment,) = yaml.safe_load(shown)
    assert deployment["work_pool"]["job_variables"]["env"].pop("AWS_PROFILE") == "team-a"
    deployment["work_pool"]["job_variables"]["env"]["MNIST_BP_ARTIFACTS"] = str(tmp_path / "team-a")
    deployment["parameters"]["config"] = SMALL
    definition = yaml.safe_load((REPOSITORY / "deployments" / "prefect.yaml").read_text())
    file = tmp_path / "team-a.yaml"
    file.write_text(yaml.safe_dump({**definition, "deployments": [deployment]}))
    done = deploy(pool.variables, tmp_path, "--file", str(file))
    assert done.returncode == 0, done.stderr

    def parameters() -> dict[bool, dict[str, Any]]:
        """Return the parameters of the schedule on Sundays, by whether it is active."""
        with get_client(sync_client=True) as client:
            schedules = client.read_deployment(deployment_id("nightly-team-a")).schedules
        return {each.active: each.parameters for each in schedules if each.slug == "long-on-sundays"}

    long = deployment["schedules"][1]["parameters"]
    assert parameters() == {True: long}
    with get_client(sync_client=True) as client:
        (sundays,) = [
            each
            for each in client.read_deployment(deployment_id("nightly-team-a")).schedules
            if each.slug == "long-on-sundays"
        ]
        client.update_deployment_schedule(deployment_id("nightly-team-a"), sundays.id, active=False)
    assert parameters() == {False: {}}  # as the README warns
    assert deploy(pool.variables, tmp_path, "--file", str(file)).returncode == 0
    assert parameters() == {False: long}

    run_id = start_run("nightly-team-a")
    with worker(pool, tmp_path / "worker"):
        wait_for(run_id, "Completed")
    assert len(list(tmp_path.glob("team-a/runs/*/manifest.json"))) == 1
    assert manifests(tmp_path / "worker") == []
