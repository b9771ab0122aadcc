"""Which night a run belongs to."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_bp.errors import ConfigError
from mnist_bp.registry.nights import night_of, night_of_seed, seed_of, zone_of


@pytest.mark.parametrize(
    ("timezone", "night"),
    [("UTC", date(2026, 11, 24)), ("Europe/Zurich", date(2026, 11, 25)), ("America/New_York", date(2026, 11, 24))],
)
def test_the_night_is_the_date_where_the_clock_hangs(timezone: str, night: date) -> None:
    assert night_of(datetime(2026, 11, 24, 23, 30, tzinfo=UTC), timezone) == night


def test_the_seed_reads_as_the_date() -> None:
    assert seed_of(date(2026, 11, 25)) == 20261125


@given(st.dates(date(2000, 1, 1), date(2999, 12, 31)))
def test_a_seed_tells_its_night(night: date) -> None:
    assert night_of_seed(seed_of(night)) == night


@pytest.mark.parametrize("seed", [0, 1, 10_101, 20261301, 20260230, 2**53 - 1])
def test_a_seed_that_is_no_date_tells_no_night(seed: int) -> None:
    assert night_of_seed(seed) is None


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../UTC", "Europe", "a\0b"])
def test_a_time_zone_that_is_none_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match="expected a name such as"):
        zone_of(name)
