"""Deployments on a real Prefect server: one installation, whose tests run in the order of its life."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
import pytest
from prefect import get_client
from prefect.client.schemas.actions import DeploymentScheduleUpdate, DeploymentUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule

from flows.runtime.crashed_runs import is_zombie
from flows.runtime.nights import SUPERSEDED
from mnist_bp.data.datasets import DATASETS
from mnist_bp.registry.nightly import seed_of
from tests.deployments.conftest import ZONE, Operation
from tests.support.bad_http import Fault, status
from tests.support.prefect_records import artifact_of, artifacts_of, task_runs_of
from tests.support.serving import ENDLESS, read_run, start_run, wait_for
from tests.support.waiting import HANG_S, eventually

pytestmark = pytest.mark.slow

SMALL = {"dataset": "mnist-sample", "steps": 60, "checkpoint_every": 30}


def prefect(operation: Operation, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Call the command `prefect`, as an operator does."""
    return subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        env={**operation.variables, "COLUMNS": "200"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )


def runs_of(deployment: str) -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(f"mnist-bp/{deployment}")
        return [run for run in client.read_flow_runs() if run.deployment_id == found.id]


def reschedule(schedule: IntervalSchedule) -> None:
    """Change the schedule of the nightly, as an operator may in the UI."""
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("mnist-bp/nightly")
        update = DeploymentScheduleUpdate(slug="nightly", schedule=schedule, active=True)
        client.update_deployment(nightly.id, DeploymentUpdate(schedules=[update]))


def pause() -> None:
    """Pause the schedule of the nightly, as an operator may in the UI."""
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("mnist-bp/nightly")
        client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=False)


def pause_train(*, paused: bool) -> None:
    """Pause the deployment of the other runs, or resume it."""
    with get_client(sync_client=True) as client:
        train = client.read_deployment_by_name("mnist-bp/train")
        client.update_deployment(train.id, DeploymentUpdate(paused=paused))


def schedules_are_active() -> list[bool]:
    with get_client(sync_client=True) as client:
        return [schedule.active for schedule in client.read_deployment_by_name("mnist-bp/nightly").schedules]


def paused_deployments() -> list[str]:
    with get_client(sync_client=True) as client:
        return [deployment.name for deployment in client.read_deployments() if deployment.paused]


def overdue() -> list[FlowRun]:
    """The nightly runs whose start is overdue, in order of their due time."""
    now = datetime.now(UTC)
    waiting = [run for run in runs_of("nightly") if run.state is not None and run.state.is_scheduled()]
    due = [run for run in waiting if run.expected_start_time is not None and run.expected_start_time < now]
    return sorted(due, key=lambda run: str(run.expected_start_time))


def resources_of(operation: Operation, event: str) -> list[UUID]:
    """The flow runs named by events of a name."""
    user, _, password = operation.variables["PREFECT_API_AUTH_STRING"].partition(":")
    asked = {"filter": {"event": {"name": [event]}}}
    reply = httpx.post(f"{operation.url}/events/filter", json=asked, auth=(user, password))
    found = [each["resource"]["prefect.resource.id"] for each in reply.raise_for_status().json()["events"]]
    return [UUID(resource.removeprefix("prefect.flow-run.")) for resource in found]


def manifests(operation: Operation) -> list[Path]:
    return sorted(operation.directory.glob("artifacts/runs/*/manifest.json"))


def test_both_deployments_exist_and_the_nightly_is_due_at_two_in_its_time_zone(operation: Operation) -> None:
    listed = prefect(operation, "deployment", "ls").stdout
    assert "mnist-bp/train" in listed
    assert "mnist-bp/nightly" in listed
    due = eventually(lambda: [run.expected_start_time for run in runs_of("nightly")], "nothing is scheduled")
    assert {time.astimezone(ZoneInfo(ZONE)).strftime("%H:%M") for time in due if time is not None} == {"02:00"}


def test_a_run_started_by_prefects_command_has_six_tasks_artifacts_and_a_manifest(operation: Operation) -> None:
    config = json.dumps({**SMALL, "seed": 7})
    asked = prefect(operation, "deployment", "run", "mnist-bp/train", "--watch", "--param", f"config={config}")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    (run,) = runs_of("train")
    assert run.state_name == "Completed"
    assert [task.name.partition("-")[0] for task in task_runs_of(run)] == [
        "download", "preprocess", "train", "evaluate", "upload", "promote"
    ]  # fmt: skip
    artifact_of(run, "accuracy-over-nights-mnist-sample")  # the last
    expected = {"accuracy-per-checkpoint", "run-summary", "accuracy-over-nights-mnist-sample"}
    assert set(artifacts_of(run)) - {"train-progress"} == expected  # which a training of more than a second has
    assert re.fullmatch(r"0\.\d{4}, promoted: mnist-sample, cpu engine, seed 7", str(run.state and run.state.message))
    assert (run.name, run.tags) == ("mnist-sample-cpu-seed7", ["dataset:mnist-sample", "engine:cpu", "seed:7"])
    (manifest,) = manifests(operation)
    recorded = json.loads(manifest.read_text())
    assert (recorded["seed"], recorded["config"]["steps"]) == (7, 60)


@pytest.mark.parametrize(
    ("parameter", "field"),
    [('config={"steps": "many"}', "steps"), ('config={"stepz": 3}', "stepz"), ("stepz=3", "stepz")],
)
def test_a_wrong_parameter_is_refused_by_name_before_a_run_is_created(
    operation: Operation, parameter: str, field: str
) -> None:
    before = len(runs_of("train"))
    asked = prefect(operation, "deployment", "run", "mnist-bp/train", "--param", parameter)
    assert asked.returncode != 0
    said = " ".join((asked.stdout + asked.stderr).split())
    assert re.search(f"(Validation failed|not found on the deployment:).*{field}", said)
    assert len(runs_of("train")) == before


def test_a_schedule_fires_by_itself_and_the_same_night_is_not_trained_twice(operation: Operation) -> None:
    before = len(manifests(operation))
    soon = datetime.now(UTC) + timedelta(seconds=5)
    reschedule(IntervalSchedule(interval=timedelta(days=30), anchor_date=soon))
    (run,) = eventually(lambda: [run for run in runs_of("nightly") if run.start_time], "it did not fire")
    assert run.auto_scheduled
    run = wait_for(run.id, "Completed")
    night = soon.astimezone(ZoneInfo(ZONE)).date()
    assert f"night:{night}" in run.tags
    assert run.name == f"mnist-sample-cpu-{night}"
    *_, newest = manifests(operation)
    nights = str(artifact_of(run, "accuracy-over-nights-mnist-sample").data)
    assert nights.count("| `") == 1  # the earlier run was not nightly
    assert f"| {night} | `{newest.parent.name}` | 60 |" in nights
    assert json.loads(newest.read_text())["seed"] == seed_of(night)
    assert (newest.parent / "promotion.json").exists()
    assert len(manifests(operation)) == before + 1

    again = wait_for(start_run("nightly"), "Completed")
    assert again.state is not None
    assert newest.parent.name in str(again.state.message)
    assert "nothing to do" in str(artifact_of(again, "run-summary").data)
    assert len(manifests(operation)) == before + 1


def test_a_download_that_is_refused_twice_is_retried_and_the_run_completes(
    operation: Operation, mnist_mirrors: str
) -> None:
    for file in DATASETS["mnist"].files:
        operation.mirror.files = {
            **operation.mirror.files,
            file.name: Path(unquote(mnist_mirrors.split()[0].removeprefix("file://")), file.name).read_bytes(),
        }
    operation.mirror.faults[DATASETS["mnist"].files[0].name] = [status(503), status(503)]
    run = wait_for(start_run("train", {"config": {**SMALL, "dataset": "mnist"}}), "Completed")
    download, *_ = task_runs_of(run)
    assert download.run_count == 3
    with get_client(sync_client=True) as client:
        names = [state.name for state in client.read_task_run_states(download.id)]
    assert names.count("AwaitingRetry") == 2


def test_a_wrong_checksum_is_not_retried_and_is_notified(operation: Operation) -> None:
    name = DATASETS["fashion-mnist"].files[0].name
    operation.mirror.faults[name] = [Fault(status=200, body=b"not MNIST <at all>")]
    run_id = start_run("train", {"config": {**SMALL, "dataset": "fashion-mnist"}})
    run = wait_for(run_id, "Failed")
    tags = ["dataset:fashion-mnist", "engine:cpu", "seed:1"]
    eventually(lambda: read_run(run_id).tags == tags, "the failed run is not tagged")  # hooks follow the state
    download, *_ = task_runs_of(run)
    assert download.run_count == 1
    (text,) = eventually(lambda: operation.webhook.texts, "no message was sent")
    assert "MD5" in text
    assert str(run_id) in text
    eventually(lambda: run_id in resources_of(operation, "mnist-bp.run.failed"), "no event was emitted")


def test_a_run_that_is_no_better_than_the_champion_is_notified(operation: Operation) -> None:
    run_id = start_run("train", {"config": {**SMALL, "steps": 1, "seed": 11}})
    wait_for(run_id, "Completed")
    (text,) = eventually(lambda: operation.webhook.texts, "no message was sent")
    assert "does not replace the champion of mnist-sample: " in text
    eventually(lambda: run_id in resources_of(operation, "mnist-bp.promotion.kept"), "no event was emitted")


def test_a_promotion_without_a_decision_is_notified(operation: Operation) -> None:
    log = operation.directory / "artifacts" / "champion" / "mnist-sample"
    head = max(log.glob("*.json"))
    intact = head.read_bytes()
    head.write_bytes(intact[:-9])
    try:
        run_id = start_run("train", {"config": {**SMALL, "seed": 13}})
        wait_for(run_id, "Completed")
    finally:
        head.write_bytes(intact)
    (text,) = eventually(lambda: operation.webhook.texts, "no message was sent")
    assert "could not challenge the champion of mnist-sample" in text
    eventually(lambda: run_id in resources_of(operation, "mnist-bp.promotion.refused"), "no event was emitted")


def test_a_run_whose_process_is_killed_crashes_and_is_notified_while_the_others_are_served(
    operation: Operation,
) -> None:
    run_id = wait_for(start_run("train", {"config": ENDLESS}), "Running").id
    pid = eventually(lambda: read_run(run_id).labels.get("mnist-bp.pid"), "it is not labelled")
    os.kill(int(str(pid)), signal.SIGKILL)
    wait_for(run_id, "Crashed")
    (text,) = eventually(lambda: operation.webhook.texts, "no message was sent")
    assert "Crashed" in text
    assert str(run_id) in text


def test_an_overlapping_run_is_cancelled_and_a_killed_run_is_marked_as_crashed(operation: Operation) -> None:
    first = wait_for(start_run("train", {"config": ENDLESS}), "Running")
    eventually(lambda: read_run(first.id).labels.get("mnist-bp.pid"), "it is not labelled")
    assert not is_zombie(read_run(first.id))
    progress = artifact_of(first, "train-progress")
    labels = read_run(first.id).labels
    resume = f"prefect deployment run mnist-bp/train --param resume={labels['mnist-bp.run-id']}"
    assert str(labels["mnist-bp.resume"]).startswith(resume)
    eventually(lambda: artifacts_of(first)["train-progress"].description != progress.description, "it stands still")
    second = wait_for(start_run("train", {"config": SMALL}), "Cancelled")
    assert "concurrency limit" in str(second.state and second.state.message)

    operation.served.kill(with_runs=True)
    assert read_run(first.id).state_name == "Running"  # no process was left to change it
    operation.serve_again()
    wait_for(first.id, "Crashed")
    assert any("killed" in text for text in operation.webhook.texts)
    wait_for(start_run("train", {"config": {**SMALL, "seed": 9}}), "Completed")
    assert schedules_are_active() == [True]


def test_a_restart_leaves_what_is_active_or_paused_and_the_latest_of_the_nights_that_were_missed_runs(
    operation: Operation,
) -> None:
    assert operation.served.stop() == 0
    assert schedules_are_active() == [True]
    assert paused_deployments() == []
    often = IntervalSchedule(interval=timedelta(seconds=2), anchor_date=datetime.now(UTC))
    reschedule(often)
    eventually(lambda: len(overdue()) > 2, "no night is missed")
    pause()
    pause_train(paused=True)
    *earlier, latest = overdue()
    operation.serve_again()
    wait_for(latest.id, "Completed")
    for run in earlier:
        wait_for(run.id, SUPERSEDED)
    assert schedules_are_active() == [False]  # the operator's pause
    assert paused_deployments() == ["train"]  # the operator's, too
    pause_train(paused=False)
    reschedule(IntervalSchedule(interval=timedelta(days=30), anchor_date=datetime.now(UTC) + timedelta(days=1)))
