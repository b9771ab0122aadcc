"""Models side by side against one after the other: the result and its table."""

from __future__ import annotations

import json

import pytest

from bench import seeds
from mnist_bp.errors import ConfigError
from mnist_bp.results.dataset import CachedDataset


def test_the_speedup_is_taken_within_each_round_and_shown_with_both_rates(sample: CachedDataset) -> None:
    logged: list[str] = []
    result = json.loads(json.dumps(seeds.measure(2, 20, logged.append, data=sample, models=3)))
    pairs = zip(result["side_by_side"]["seconds"], result["alone"]["seconds"], strict=True)
    assert result["speedup"] == pytest.approx(sum(3 * alone / together for together, alone in pairs) / 2)
    assert logged == ["seeds: warm-up", "seeds: round 1 of 2", "seeds: round 2 of 2"]
    assert seeds.table(result).row_count == 2


def test_zero_rounds_are_refused(sample: CachedDataset) -> None:
    with pytest.raises(ConfigError, match="0 rounds: expected at least 1"):
        seeds.measure(0, 10, data=sample)
