"""The worker of a process pool, stopped and killed while a run trains."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.runtime.working import require_process_pool
from flows.train import train
from mnist_bp.errors import ConfigError
from mnist_bp.layout import run_directory
from mnist_bp.training.journal import Journal
from tests.deployments.conftest import Operation
from tests.support.serving import ENDLESS, read_run, start_run, wait_for
from tests.support.waiting import HANG_S, eventually
from tests.support.workers import Worker

pytestmark = pytest.mark.slow

POOL = "stopped-and-killed"


@pytest.fixture
def pool(operation: Operation) -> Iterator[None]:
    """A process pool, to which a deployment belongs."""
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        deployment = RunnerDeployment.from_flow(
            train, "pooled", entrypoint_type=EntrypointType.MODULE_PATH, work_pool_name=POOL
        )
        created = deployment.apply()
        assert isinstance(created, UUID)
        yield
        client.delete_deployment(created)
        client.delete_work_pool(POOL)


def start_to_train(directory: Path) -> tuple[UUID, str]:
    """Start a run that does not end, and return it once it can be resumed, with the id by which it can."""
    run = start_run("pooled", {"config": {**ENDLESS, "engine": "cpu"}})
    wait_for(run, "Running")

    def journalled() -> str | None:
        runs = directory / "runs"
        found = [path.name for path in runs.iterdir() if path.is_dir()] if runs.is_dir() else []
        return found[0] if found and Journal(run_directory(str(directory), found[0])).path.exists() else None

    return run, eventually(journalled, "it does not train")


def test_a_worker_that_is_stopped_ends_its_runs_as_crashed_and_prints_how_to_resume_them(
    operation: Operation, pool: None, tmp_path: Path
) -> None:
    with Worker(operation.variables, tmp_path, "--pool", POOL).ready() as worker:
        run, name = start_to_train(tmp_path / "data")
        (process,) = worker.runs
        assert worker.stop() == 0
        assert not process.is_running()
        state = read_run(run).state
        assert state is not None
        assert (state.name, state.message) == ("Crashed", "Execution was aborted by a termination signal.")
        # quoted in a path with a space
        assert re.search(rf"prefect'? deployment run mnist-bp/train --param resume={name}\n", worker.text)
        assert "Traceback" not in worker.text


def test_a_worker_that_starts_again_marks_the_runs_that_were_killed_with_it(
    operation: Operation, pool: None, tmp_path: Path
) -> None:
    with Worker(operation.variables, tmp_path, "--pool", POOL).ready():
        run, name = start_to_train(tmp_path / "data")
    assert read_run(run).state_name == "Running"
    with Worker(operation.variables, tmp_path, "--pool", POOL).ready() as worker:
        assert read_run(run).state_name == "Crashed"
        assert re.search(rf"prefect'? deployment run mnist-bp/train --param resume={name}\n", worker.text)
        worker.process.send_signal(signal.SIGINT)  # as Ctrl-C does
        assert worker.process.wait(HANG_S) == 0
        assert "no run was in progress" in worker.text


def test_a_pool_that_does_not_exist_or_starts_no_processes_is_one_line(operation: Operation) -> None:
    with pytest.raises(ConfigError, match=r"pool 'absent': no such work pool .*deploy\.py --pool absent"):
        require_process_pool("absent")
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="elsewhere", type="docker"))
        try:
            with pytest.raises(ConfigError, match="pool 'elsewhere': its type is docker; expected process"):
                require_process_pool("elsewhere")
        finally:
            client.delete_work_pool("elsewhere")
