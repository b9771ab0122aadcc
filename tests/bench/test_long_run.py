"""A long run in parts: each is timed, and compared with the first."""

from __future__ import annotations

import json

import pytest

from bench import long_run
from mnist_bp.errors import ConfigError
from mnist_bp.results.dataset import CachedDataset


def test_every_part_of_a_long_run_is_compared_with_the_first_within_each_round(sample: CachedDataset) -> None:
    logged: list[str] = []
    result = json.loads(json.dumps(long_run.measure(2, 20, logged.append, data=sample)))
    first, last = result["parts"][0], result["parts"][-1]
    assert (first["first"], first["last"], last["first"], last["last"]) == (0, 20, 180, 200)
    pairs = zip(last["seconds"], first["seconds"], strict=True)
    assert result["ratio"] == last["ratio"] == pytest.approx(sum(late / early for late, early in pairs) / 2)
    assert first["ratio"] == 1
    assert logged == ["long: warm-up", "long: round 1 of 2", "long: round 2 of 2"]
    assert long_run.table(result).row_count == 10


def test_zero_rounds_are_refused(sample: CachedDataset) -> None:
    with pytest.raises(ConfigError, match="0 rounds: expected at least 1"):
        long_run.measure(0, 10, data=sample)
