"""Nights: which one a run belongs to, and the seed that follows from it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mnist_bp.errors import ConfigError

ZONE_EXPECTED: Final = "expected a name such as UTC or Europe/Zurich"


def zone_of(name: str) -> ZoneInfo:
    """Find a time zone by its name, such as Europe/Zurich.

    Raises:
        ConfigError: There is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:  # no such key; one that is no path; a directory
        raise ConfigError(f"time zone {name!r}: {ZONE_EXPECTED}") from exc


def night_of(start: datetime, timezone: str) -> date:
    """Return the date on which a run was due, where the schedule's clock hangs.

    Args:
        start: When it was due; with a time zone.
        timezone: Name of the clock's.

    Raises:
        ConfigError: There is no such time zone.
    """
    return start.astimezone(zone_of(timezone)).date()


def seed_of(night: date) -> int:
    """Return the seed of a night: 20261125 for the 25th of November 2026."""
    return night.year * 10_000 + night.month * 100 + night.day


def night_of_seed(seed: int) -> date | None:
    """Return the night whose seed it is, or None if it is not the date of a day in this millennium."""
    year, month, day = seed // 10_000, seed // 100 % 100, seed % 100
    try:
        return date(year, month, day) if 2000 <= year < 3000 else None
    except ValueError:
        return None
