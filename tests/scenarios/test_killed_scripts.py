"""The script `flows/train.py` as a process that is killed, and two such processes at the same time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.storage.address import open_store
from tests.conftest import data_dir_of
from tests.support.published_runs import champions
from tests.support.scripts import SCRIPT, Start
from tests.support.waiting import HANG_S

STEPS = ["--dataset", "mnist-sample", "--steps", "2000", "--checkpoint-every", "400"]

pytestmark = [pytest.mark.usefixtures("prefect_server", "warm_caches"), pytest.mark.slow]


@pytest.fixture
def start(start: Start) -> Start:
    """Start the script on the session's Prefect server, so that no process is left when it is killed."""
    return partial(start, PREFECT_API_URL=str(PREFECT_API_URL.value()))


def end(process: subprocess.Popen[str]) -> dict[str, object]:
    out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, err
    printed: dict[str, object] = json.loads(out)
    return printed


@pytest.fixture(scope="module")
def together(
    prefect_server: None, sample_raw: RawDataset, sample: CachedDataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, object]]]:
    """The artifacts of two scripts that ran at once on the cpu engine, with seeds 1 and 2, and what each printed."""
    place = tmp_path_factory.mktemp("together")
    shutil.copytree(data_dir_of(sample_raw), place / "data")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MNIST_BP_"))}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), "--json", *STEPS, "--engine", "cpu", "--seed", seed],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place,
            env={**environment, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        )
        for seed in ("1", "2")
    ]  # fmt: skip
    return place / "artifacts", [end(process) for process in processes]


@pytest.mark.parametrize("engine", ["reference", "cpu"])
def test_a_script_that_is_killed_and_resumed_publishes_the_same_checkpoints(
    engine: str, start: Start, together: tuple[Path, list[dict[str, object]]]
) -> None:
    process = start(*STEPS, "--engine", engine, "--artifacts", "killed")
    deadline = time.monotonic() + HANG_S
    while not list(Path("data/runs").glob("*/checkpoints/step-0000400.safetensors")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.kill()
    process.communicate()
    (directory,) = Path("data/runs").iterdir()
    assert not list(Path("killed").rglob("promotion.json"))
    resumed = end(start("--json", "--resume", directory.name))
    whole = together[1][0] if engine == "cpu" else end(start("--json", *STEPS, "--engine", engine))
    assert resumed["run_id"] == directory.name
    assert resumed["checkpoints"] == whole["checkpoints"]


def test_two_scripts_at_once_are_both_published_and_the_champion_has_one_history(
    together: tuple[Path, list[dict[str, object]]],
) -> None:
    artifacts, printed = together
    assert all(Path(str(each["manifest"])).with_name("promotion.json").exists() for each in printed)
    found = champions(open_store(str(artifacts)), "mnist-sample")
    assert set(found) <= {each["run_id"] for each in printed}
    assert found
