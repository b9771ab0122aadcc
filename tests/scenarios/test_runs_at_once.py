"""Runs at the same time on one machine, in one data directory and for one store."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_bp.config import RunConfig
from mnist_bp.data.datasets import DATASETS
from mnist_bp.layout import PROMOTION, RUNS
from mnist_bp.registry.verify import verify
from mnist_bp.storage.address import open_store
from tests.support.killed_runs import RunLauncher, RunPlan
from tests.support.published_runs import champions, run_id_of

DATASET = "mnist-sample"


@pytest.fixture
def plans(tmp_path: Path) -> list[RunPlan]:
    """Four runs that differ in their seeds, with an empty data directory."""
    places = {"data_dir": str(tmp_path / "data"), "artifacts": str(tmp_path / "artifacts")}
    common = {"dataset": DATASET, "steps": 500, "checkpoint_every": 100, "engine": "cpu", **places}
    return [RunPlan(RunConfig.model_validate({**common, "seed": seed}), run_id_of(seed)) for seed in range(1, 5)]


def assert_all_are_published(plans: list[RunPlan]) -> None:
    """Check that every run is complete and has a promotion record, and that the champion's log is whole."""
    store = open_store(plans[0].config.artifacts)
    findings = list(verify(store, Path(plans[0].config.data_dir), all_runs=True))
    assert [finding for finding in findings if finding.status != "ok"] == []
    assert all(store.read(f"{RUNS}{plan.run_id}/{PROMOTION}") is not None for plan in plans)
    found = champions(store, DATASET)
    assert found
    assert len(set(found)) == len(found)
    assert set(found) <= {plan.run_id for plan in plans}


def test_of_several_runs_at_once_one_builds_the_caches_and_all_are_published(
    launcher: RunLauncher, plans: list[RunPlan]
) -> None:
    results = launcher.run(*plans)
    assert all(result.finished for result in results), [result.message for result in results]
    made = Counter(event for result in results for event in result.events if event.startswith("os.rename"))
    raw = [f"os.rename {file.name}" for file in DATASETS[DATASET].files]
    for name in (*raw, "os.rename train.parquet", "os.rename test.parquet"):
        assert made[name] == 1, name
    assert_all_are_published(plans)


@pytest.mark.parametrize("event", ["write .train-images", "write .train.parquet", "os.rename train.parquet"])
def test_if_the_run_that_builds_the_caches_is_killed_the_others_build_them(
    event: str, launcher: RunLauncher, plans: list[RunPlan], tmp_path: Path
) -> None:
    elsewhere = {"data_dir": str(tmp_path / "elsewhere"), "artifacts": str(tmp_path / "elsewhere")}
    (alone,) = launcher.run(replace(plans[0], config=plans[0].config.model_copy(update=elsewhere)))
    number = next(number for number, each in enumerate(alone.events, 1) if each.startswith(event))
    killed, *others = launcher.run(*(replace(plan, kill_at=number) if plan is plans[0] else plan for plan in plans))
    assert all(result.finished for result in others), [result.message for result in others]
    if killed.killed:  # it built the caches, or reached the event in a later stage
        (resumed,) = launcher.run(plans[0])
        assert resumed.finished, resumed.message
    assert_all_are_published(plans)


def test_a_run_in_progress_is_not_started_a_second_time(launcher: RunLauncher, plans: list[RunPlan]) -> None:
    long = plans[0].config.model_copy(update={"steps": 400_000, "checkpoint_every": 100_000})
    twice = [replace(plans[0], config=long)] * 2
    results = launcher.run(*twice)
    (refused,) = [result for result in results if not result.finished]
    assert refused.error == "StoreError"
    assert "another process is working on this run" in refused.message
    assert_all_are_published(plans[:1])
