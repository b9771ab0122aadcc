"""Runs that are made at the same time on one machine, in one data directory and for one store."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_bp.config import RunConfig
from mnist_bp.data.datasets import DATASETS
from mnist_bp.layout import PROMOTION, RUNS
from mnist_bp.registry.champion import read_champion
from mnist_bp.registry.verify import verify
from mnist_bp.storage.address import open_store
from tests.support.killed_runs import Nursery, Order
from tests.support.published_runs import run_id_of

DATASET = "mnist-sample"


@pytest.fixture
def orders(tmp_path: Path) -> list[Order]:
    """Four runs that differ in their seeds, with nothing in their data directory yet."""
    places = {"data_dir": str(tmp_path / "data"), "artifacts": str(tmp_path / "artifacts")}
    common = {"dataset": DATASET, "steps": 500, "checkpoint_every": 100, "engine": "cpu", **places}
    return [Order(RunConfig.model_validate({**common, "seed": seed}), run_id_of(seed)) for seed in range(1, 5)]


def assert_all_is_well(orders: list[Order]) -> None:
    """Every run is whole and was decided about, and the champion's history is one without a gap."""
    store = open_store(orders[0].config.artifacts)
    findings = list(verify(store, Path(orders[0].config.data_dir), all_runs=True))
    assert [finding for finding in findings if finding.status != "ok"] == []
    assert all(store.read(f"{RUNS}{order.run_id}/{PROMOTION}") is not None for order in orders)
    history = read_champion(store, DATASET).history
    assert [change.sequence for change in history] == list(range(len(history)))
    champions = [change.run_id for change in history]
    assert champions
    assert len(set(champions)) == len(champions)
    assert set(champions) <= {order.run_id for order in orders}


def test_of_several_runs_at_once_one_builds_the_caches_and_all_are_published(
    nursery: Nursery, orders: list[Order]
) -> None:
    endings = nursery.make(*orders)
    assert all(ending.finished for ending in endings), [ending.message for ending in endings]
    made = Counter(event for ending in endings for event in ending.events if event.startswith("os.rename"))
    raw = [f"os.rename {file.name}" for file in DATASETS[DATASET].files]
    for name in (*raw, "os.rename train.parquet", "os.rename test.parquet"):
        assert made[name] == 1, name
    assert_all_is_well(orders)


@pytest.mark.parametrize("event", ["write .train-images", "write .train.parquet", "os.rename train.parquet"])
def test_where_the_run_that_builds_the_caches_is_killed_the_others_build_them(
    event: str, nursery: Nursery, orders: list[Order], tmp_path: Path
) -> None:
    elsewhere = {"data_dir": str(tmp_path / "elsewhere"), "artifacts": str(tmp_path / "elsewhere")}
    (alone,) = nursery.make(replace(orders[0], config=orders[0].config.model_copy(update=elsewhere)))
    number = next(number for number, each in enumerate(alone.events, 1) if each.startswith(event))
    dying, *others = nursery.make(*(replace(order, die_at=number) if order is orders[0] else order for order in orders))
    assert all(ending.finished for ending in others), [ending.message for ending in others]
    if dying.killed:  # it was the builder, or got as far in a later step
        (resumed,) = nursery.make(orders[0])
        assert resumed.finished, resumed.message
    assert_all_is_well(orders)


def test_a_run_that_is_being_made_is_not_made_a_second_time_at_once(nursery: Nursery, orders: list[Order]) -> None:
    long = orders[0].config.model_copy(update={"steps": 400_000, "checkpoint_every": 100_000})
    twice = [replace(orders[0], config=long)] * 2
    endings = nursery.make(*twice)
    (refused,) = [ending for ending in endings if not ending.finished]
    assert refused.error == "StoreError"
    assert "another process is working on this run" in refused.message
    assert_all_is_well(orders[:1])
