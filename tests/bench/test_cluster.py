"""The figures of a cluster, without one; `mnist-bp bench cluster` starts it."""

from __future__ import annotations

import json

import pytest

from bench import cluster
from bench.machine import header
from mnist_bp.errors import ConfigError

ALL_BUSY = {"serial": 4.0, "local": 2.0, "ray": 2.5, "serial cpu": 4.0, "local cpu": 4.2, "ray cpu": 4.4}
SHORT = {"local short": 3.2, "ray short": 3.52, "outside": 0.004, "serial part": 0.06, "ray part": 0.07, "no-op": 0.001}
ROUND = {**ALL_BUSY, **SHORT, "other processes": 0.1}
SLOW = {name: 3 * seconds for name, seconds in ROUND.items()}
SLOWER = {**SLOW, "ray": 15.0, "ray cpu": 24.0}


def test_ratios_and_differences_are_taken_within_a_round() -> None:
    found = cluster.summarize([ROUND, SLOW, SLOWER])
    assert found["speed_ratio"] == pytest.approx(0.8)
    assert found["cpu_ratio"] == pytest.approx({"serial": 1.0, "local": 1.05, "ray": 1.1})
    assert found["overhead"]["min"] == pytest.approx(0.01)  # 0.32 s, 64 parts, two at a time
    assert found["latency"]["seconds"] == pytest.approx([0.01, 0.03, 0.03])


def test_the_table_has_a_row_for_each_way_and_states_all_overheads() -> None:
    about = {
        "machine": header(),
        "ray": "2.60.0",
        "dataset": "mnist",
        "runs": 1,
        "steps": 100,
        "parts": 16,
        "models": 8,
    }
    table = cluster.table(json.loads(json.dumps({**about, "startup_seconds": 3.0, **cluster.summarize([ROUND])})))
    assert [next(iter(column.cells)) for column in table.columns] == [
        "one after the other",
        "32.0",
        "32.0 to 32.0",
        "31.2",
        "31.2 to 31.2",
        "1.000",
    ]
    assert table.row_count == 3
    caption = str(table.caption)
    assert "0.800 x the models/s of 2 threads; start-up 3.0 s" in caption
    assert "cores busy: 4.0 (4.0 to 4.0) ms besides its work, 10.0 (10.0 to 10.0) ms longer than on a thread" in caption
    assert "a task that trains nothing: 1.0 (1.0 to 1.0) ms" in caption


def test_zero_rounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 rounds: expected at least 1"):
        cluster.measure(0, 10)
