"""A run that is killed, at any moment and at each operation on a disk or a server, and resumed.

Whenever it is killed, readers find only complete runs, the resumed run ends in the same bits as one that was never
killed, and gc leaves no temporary files.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from mnist_bp.config import RunConfig
from mnist_bp.layout import MANIFEST, MODEL, PROMOTION, RUNS, run_directory
from mnist_bp.model.steps import checkpoint_steps
from mnist_bp.registry.gc import collect
from mnist_bp.registry.log_entries import list_logs
from mnist_bp.registry.retention import RetentionPolicy
from mnist_bp.registry.verify import verify
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.storage.address import open_store
from mnist_bp.storage.files import PARTIAL_SUFFIX, TEMPORARY_SUFFIX
from mnist_bp.storage.reading import sha256_of_bytes
from mnist_bp.training.journal import Journal
from tests.conftest import data_dir_of
from tests.support.killed_runs import RunLauncher, RunPlan
from tests.support.published_runs import champions, run_id_of
from tests.support.s3_servers import S3Server, environment_of, few_servers

DATASET = "mnist-sample"
CORES = 2

RANDOM_KILLS = 30
MOMENTS_PER_ROUND = 16
STAGES = ["nothing", "training", "trained", "uploading", "published", "promoted", "decided"]

NewRun = Callable[[], RunPlan]


@dataclass(frozen=True)
class CompleteRun:
    """A run that was not interrupted.

    Args:
        model: SHA-256 of its model.
        events: Its operations, in order.
        seconds: Its duration, in seconds.
    """

    model: str
    events: tuple[str, ...]
    seconds: float


@pytest.fixture
def cold(tmp_path: Path) -> NewRun:
    """Plan runs, each with a separate and empty data directory and store."""
    numbers = count(1)

    def plan() -> RunPlan:
        number = next(numbers)
        place = {"data_dir": str(tmp_path / f"data-{number}"), "artifacts": str(tmp_path / f"artifacts-{number}")}
        config = RunConfig(dataset=DATASET, steps=500, checkpoint_every=100, engine="cpu", **place)
        return RunPlan(config, run_id_of(number))

    return plan


@pytest.fixture
def warm(cold: NewRun, sample_raw: RawDataset, sample: CachedDataset) -> NewRun:
    """Plan runs as `cold` does, with the dataset already downloaded and preprocessed."""

    def plan() -> RunPlan:
        plan = cold()
        shutil.copytree(data_dir_of(sample_raw), plan.config.data_dir)
        return plan

    return plan


def finish(launcher: RunLauncher, plan: RunPlan) -> CompleteRun:
    """Execute a run to its end."""
    (result,) = launcher.run(plan)
    assert result.finished, result.message
    return CompleteRun(model_of(plan), result.events, result.seconds)


def model_of(plan: RunPlan) -> str:
    return sha256_of_bytes(open_store(plan.config.artifacts).get(f"{RUNS}{plan.run_id}/{MODEL}"))


def stage_of(plan: RunPlan) -> str:
    """Return the stage that a run has reached."""
    store = open_store(plan.config.artifacts)
    put = {entry.key.removeprefix(f"{RUNS}{plan.run_id}/") for entry in store.list_entries(f"{RUNS}{plan.run_id}/")}
    if PROMOTION in put:
        return "decided"
    if DATASET in list_logs(store):
        return "promoted"
    if put:
        return "published" if MANIFEST in put else "uploading"
    known = Journal(run_directory(plan.config.data_dir, plan.run_id)).read()
    if known is None:
        return "nothing"
    return (
        "trained"
        if set(known.checkpoints) == set(checkpoint_steps(plan.config.checkpoint_every, plan.config.steps))
        else "training"
    )


def assert_readers_find_only_complete_runs(plan: RunPlan) -> None:
    """Check that each manifest names intact files only, and each champion's log complete runs only."""
    bad = [
        finding for finding in verify(open_store(plan.config.artifacts), Path("nowhere"), all_runs=True) if finding.bad
    ]
    assert bad == []


def assert_as_if_never_killed(plan: RunPlan, complete: CompleteRun) -> None:
    assert stage_of(plan) == "decided"
    assert model_of(plan) == complete.model
    store, data_dir = open_store(plan.config.artifacts), Path(plan.config.data_dir)
    assert [finding for finding in verify(store, data_dir, all_runs=True) if finding.status != "ok"] == []
    assert champions(store, DATASET) == [plan.run_id]


def assert_gc_leaves_no_temporary_files(plan: RunPlan) -> None:
    store, data_dir = open_store(plan.config.artifacts), Path(plan.config.data_dir)
    collect(store, data_dir, RetentionPolicy(1, 1, timedelta()), now=datetime.now(UTC) + timedelta(hours=1))
    places = [data_dir, *([] if "://" in plan.config.artifacts else [Path(plan.config.artifacts)])]
    names = [path.name for place in places for path in place.rglob("*")]
    assert [name for name in names if name.endswith((TEMPORARY_SUFFIX, PARTIAL_SUFFIX)) or ".removed-" in name] == []
    assert_readers_find_only_complete_runs(plan)


def stages_when_killed(launcher: RunLauncher, plans: Sequence[RunPlan], complete: CompleteRun) -> Iterator[str]:
    """Kill runs as planned, check what readers find, resume the runs, and check again.

    Yields:
        The stage that each killed run had reached.
    """
    for start in range(0, len(plans), CORES):
        some = plans[start : start + CORES]
        for plan, result in zip(some, launcher.run(*some), strict=True):
            assert result.killed or result.finished, result.message
            assert_readers_find_only_complete_runs(plan)
            if result.killed:
                yield stage_of(plan)
        again = [replace(plan, kill_at=None, kill_after_s=None) for plan in some]
        for plan, result in zip(again, launcher.run(*again), strict=True):
            assert result.finished, f"{plan}: {result.message}"
            assert_as_if_never_killed(plan, complete)
            assert_gc_leaves_no_temporary_files(plan)


@pytest.mark.slow
def test_a_run_killed_at_each_operation_on_the_disk_ends_as_if_never_killed(
    launcher: RunLauncher, warm: NewRun
) -> None:
    complete = finish(launcher, warm())
    plans = [replace(warm(), kill_at=number) for number in range(1, len(complete.events) + 1)]
    stages = list(stages_when_killed(launcher, plans, complete))
    assert len(stages) == len(plans) >= 80
    assert list(dict.fromkeys(stages)) == STAGES


def test_a_run_killed_while_it_builds_its_caches_builds_them_again(launcher: RunLauncher, cold: NewRun) -> None:
    complete = finish(launcher, cold())
    caches = next(number for number, event in enumerate(complete.events) if "journal" in event)
    plans = [replace(cold(), kill_at=number) for number in range(1, caches + 1, 2)]
    assert set(stages_when_killed(launcher, plans, complete)) == {"nothing"}


def test_a_run_killed_at_random_moments_ends_as_if_never_killed(launcher: RunLauncher, warm: NewRun) -> None:
    """Each round measures again how long a run takes: other load on the machine changes."""
    complete, stages, rng = finish(launcher, warm()), list[str](), random.Random(4)
    while len(stages) < RANDOM_KILLS or not {"nothing", "training"} < set(stages):
        together = launcher.run(*(warm() for _ in range(CORES)))  # as many as are killed
        longest = max(result.seconds for result in together)
        moments = [longest * (each + rng.random()) / MOMENTS_PER_ROUND for each in range(MOMENTS_PER_ROUND)]
        stages += stages_when_killed(launcher, [replace(warm(), kill_after_s=moment) for moment in moments], complete)


def test_a_run_that_is_killed_again_and_again_is_completed(launcher: RunLauncher, warm: NewRun) -> None:
    complete, plan = finish(launcher, warm()), warm()
    for attempt in count(1):
        (result,) = launcher.run(replace(plan, kill_at=32))
        if not result.killed:
            break
        assert_readers_find_only_complete_runs(plan)
        assert attempt < 50, f"no end, but {stage_of(plan)}"
    assert result.finished, result.message
    assert attempt > 3
    assert_as_if_never_killed(plan, complete)
    assert_gc_leaves_no_temporary_files(plan)


@pytest.mark.parametrize("s3_server", few_servers(), indirect=True)
def test_a_run_killed_at_requests_to_a_server_ends_as_if_never_killed(
    launcher: RunLauncher, warm: NewRun, s3_server: S3Server, s3_bucket: str
) -> None:
    def plan() -> RunPlan:
        given = warm()
        config = given.config.model_copy(update={"artifacts": f"s3://{s3_bucket}/{given.run_id}"})
        return replace(given, config=config, environment=environment_of(s3_server))

    complete = finish(launcher, plan())
    requests = [number for number, event in enumerate(complete.events, 1) if event.startswith("http.client.send")]
    plans = [replace(plan(), kill_at=number) for number in requests[4 :: len(requests) // 5]]
    stages = list(stages_when_killed(launcher, plans, complete))
    assert len(stages) >= len(plans) - 2 >= 2
    assert {"uploading", "decided"} & set(stages)


def test_a_result_that_a_test_did_not_wait_for_is_not_taken_for_the_next(launcher: RunLauncher, warm: NewRun) -> None:
    """Otherwise, one test that times out makes all later tests fail."""
    launcher.start(replace(warm(), kill_at=1))
    (result,) = launcher.run(warm())
    assert result.finished, result.message
