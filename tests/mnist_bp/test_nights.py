"""Which night a run belongs to."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from mnist_bp.errors import ConfigError
from mnist_bp.nights import night_of, seed_of, zone_of


@pytest.mark.parametrize(
    ("timezone", "night"),
    [("UTC", date(2026, 11, 24)), ("Europe/Zurich", date(2026, 11, 25)), ("America/New_York", date(2026, 11, 24))],
)
def test_the_night_is_the_date_where_the_clock_hangs(timezone: str, night: date) -> None:
    assert night_of(datetime(2026, 11, 24, 23, 30, tzinfo=UTC), timezone) == night


def test_the_seed_reads_as_the_date() -> None:
    assert seed_of(date(2026, 11, 25)) == 20261125


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../UTC", "Europe", "a\0b"])
def test_a_time_zone_that_is_none_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match="expected a name such as"):
        zone_of(name)
