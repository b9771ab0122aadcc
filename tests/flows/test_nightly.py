"""What a nightly run refuses, and the date of a night."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule

from flows.nightly import nightly
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError
from mnist_bp.registry.nightly import night_of
from mnist_bp.summary import FinishedRun, RunSummary
from tests.support.own_images import some_images, write_folders
from tests.support.prefect_records import newest_flow_run


@pytest.mark.usefixtures("prefect_server")
def test_a_night_cannot_fall_back_to_the_bundled_sample() -> None:
    with pytest.raises(ConfigError, match="dataset auto: expected a dataset by name"):
        nightly(RunConfig(dataset="auto"))
    assert newest_flow_run().state_name == "Failed"


@pytest.mark.usefixtures("prefect_server", "own_signals")
def test_a_night_of_own_images_is_trained_once(tmp_path: Path) -> None:
    place = write_folders(tmp_path / "zoo", some_images(24), [0, 1, 2] * 8)
    config = RunConfig(dataset=f"images:{place}", epochs=2, engine="reference")
    first, again = (nightly(config, night=date.today()) for _ in range(2))
    assert isinstance(first, RunSummary)
    assert (first.dataset, first.steps) == ("zoo", 2 * (21 // 10))
    assert isinstance(again, FinishedRun)
    assert again.run_id == first.run_id


@pytest.mark.parametrize("zone", ["Africa/Cairo", "America/Havana", "America/Santiago", "Asia/Beirut"])
def test_a_schedule_at_midnight_has_one_run_a_date_where_clocks_change_at_midnight(zone: str) -> None:
    first = date(2026, 1, 1)
    schedule = CronSchedule(cron="0 0 * * *", timezone=zone)
    due = asyncio.run(schedule.get_dates(n=400, start=datetime(2026, 1, 1, tzinfo=ZoneInfo(zone))))
    nights = [night_of(time.astimezone(UTC), zone) for time in due]
    assert nights == [first + timedelta(days=number) for number in range(400)]
