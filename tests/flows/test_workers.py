"""Runs of several machines with one store: what a worker logs that has other code, or lacks rights to the store."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId, LogFilterLevel
from prefect.client.schemas.objects import FlowRun

import mnist_bp
from flows.nightly import nightly
from flows.train import train
from mnist_bp import __version__
from mnist_bp.config import RunConfig
from mnist_bp.errors import StoreError
from mnist_bp.registry.code import code_sha256
from mnist_bp.summary import RunSummary
from tests.support.prefect_records import logs_of, newest_flow_run
from tests.support.s3_servers import admin_client, environment_of, serve, user_with_rights

pytestmark = pytest.mark.usefixtures("prefect_server", "warm_caches")

CONFIG = RunConfig(dataset="mnist-sample", steps=20, checkpoint_every=20, engine="reference")


def train_on_another_machine(directory: Path) -> str:
    """Publish a run with another version of the code, and return its id."""
    shutil.copytree(Path(mnist_bp.__file__).parent, directory / "mnist_bp")
    changed = directory / "mnist_bp" / "summary.py"
    changed.write_text(f"{changed.read_text()}\n# another version\n")
    flags = ["--dataset", "mnist-sample", "--steps", "20", "--engine", "reference", "--json"]
    command = [sys.executable, "-P", "-m", "mnist_bp", "train", *flags]
    environment = {**os.environ, "PYTHONPATH": str(directory)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    run_id: str = json.loads(done.stdout)["run_id"]
    return run_id


def warnings_of(run: FlowRun) -> list[str]:
    assert logs_of(run)
    flow_run, level = LogFilterFlowRunId(any_=[run.id]), LogFilterLevel(ge_=logging.WARNING)
    with get_client(sync_client=True) as client:
        return [log.message for log in client.read_logs(log_filter=LogFilter(flow_run_id=flow_run, level=level))]


def test_a_night_with_other_code_than_the_newest_run_warns_once_and_trains(tmp_path: Path) -> None:
    other = train_on_another_machine(tmp_path / "other")
    recorded = json.loads(Path(f"artifacts/runs/{other}/manifest.json").read_text())["code"]
    assert recorded["sha256"] != code_sha256()
    today = date.today()
    assert isinstance(nightly(CONFIG, night=today), RunSummary)
    (line,) = warnings_of(newest_flow_run())
    for part in (
        "uses other code",
        other,
        f"mnist-bp {__version__}",
        recorded["sha256"][:12],
        code_sha256()[:12],
        "install one version",
    ):
        assert part in line
    assert isinstance(nightly(CONFIG, night=today + timedelta(days=1)), RunSummary)
    assert warnings_of(newest_flow_run()) == []  # the newest run is now by this code


def test_a_run_that_may_not_write_to_the_store_fails_before_its_first_task(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serve("moto", tmp_path / "moto") as server:
        with admin_client(server) as client:
            client.create_bucket(Bucket="runs")
        reader = user_with_rights(server, "reader", ["s3:GetObject", "s3:ListBucket"])
        for name, value in environment_of(reader).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StoreError) as refused:
            train(CONFIG.model_copy(update={"artifacts": "s3://runs"}))
    (line,) = str(refused.value).splitlines()
    assert line.startswith("cannot write to s3://runs/: AccessDenied (HTTP 403)")
    assert "check the credentials (AWS_*) and their rights" in line
    assert "refused: s3:PutObject" in line
    run = newest_flow_run()
    assert run.state is not None
    assert line in str(run.state.message)
    assert not [line for line in logs_of(run) if line.startswith(("download", "preprocess", "train"))]
    assert not Path("data/runs").exists()
