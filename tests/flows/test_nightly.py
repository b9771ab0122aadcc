"""What a nightly run refuses, and the date of a night."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule

from flows.nightly import nightly
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError
from mnist_bp.registry.nightly import night_of
from tests.support.prefect_records import newest_flow_run


@pytest.mark.usefixtures("prefect_server")
def test_a_night_cannot_fall_back_to_the_bundled_sample() -> None:
    with pytest.raises(ConfigError, match="dataset auto: expected a dataset by name"):
        nightly(RunConfig(dataset="auto"))
    assert newest_flow_run().state_name == "Failed"


@pytest.mark.parametrize("zone", ["Africa/Cairo", "America/Havana", "America/Santiago", "Asia/Beirut"])
def test_a_schedule_at_midnight_has_one_run_a_date_where_clocks_change_at_midnight(zone: str) -> None:
    first = date(2026, 1, 1)
    schedule = CronSchedule(cron="0 0 * * *", timezone=zone)
    due = asyncio.run(schedule.get_dates(n=400, start=datetime(2026, 1, 1, tzinfo=ZoneInfo(zone))))
    nights = [night_of(time.astimezone(UTC), zone) for time in due]
    assert nights == [first + timedelta(days=number) for number in range(400)]
