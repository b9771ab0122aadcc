"""The rounds of a measurement and their statistics."""

from __future__ import annotations

import pytest

from bench.rounds import check_rounds, ratio, rounds, spread
from mnist_bp.errors import ConfigError


def test_a_spread_is_raw_figures_median_and_ends() -> None:
    assert spread([2.0, 30.0, 6.0]) == {"seconds": [2.0, 30.0, 6.0], "median": 6.0, "min": 2.0, "max": 30.0}


def test_the_first_round_warms_up_and_is_not_counted() -> None:
    logged: list[str] = []
    assert list(rounds("loading", 2, logged.append)) == [False, True, True]
    assert logged == ["loading: warm-up", "loading: round 1 of 2", "loading: round 2 of 2"]


def test_a_ratio_is_the_median_of_those_within_a_round() -> None:
    assert ratio([2.0, 30.0, 6.0], [1.0, 10.0, 6.0]) == 2.0


def test_zero_rounds_are_refused() -> None:
    check_rounds(1)
    with pytest.raises(ConfigError, match="0 rounds: expected at least 1"):
        check_rounds(0)
