"""How rounds are put together."""

from __future__ import annotations

import pytest

from bench.rounds import check_rounds, ratio, spread
from mnist_bp.errors import ConfigError


def test_a_spread_is_raw_figures_median_and_ends() -> None:
    assert spread([2.0, 30.0, 6.0]) == {"seconds": [2.0, 30.0, 6.0], "median": 6.0, "min": 2.0, "max": 30.0}


def test_a_ratio_is_the_median_of_those_within_a_round() -> None:
    assert ratio([2.0, 30.0, 6.0], [1.0, 10.0, 6.0]) == 2.0


def test_no_rounds_at_all_are_refused() -> None:
    check_rounds(1)
    with pytest.raises(ConfigError, match="0 rounds: expected at least 1"):
        check_rounds(0)
