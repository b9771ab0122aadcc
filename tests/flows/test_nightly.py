"""The date of a night: when its run was due, or today if it starts late."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from flows.nightly import MAX_DELAY, night_to_train, nightly
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError
from tests.support.prefect_records import newest_flow_run


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (timedelta(seconds=20), date(2026, 11, 25)),  # due before midnight, started after it
        (MAX_DELAY + timedelta(seconds=1), date(2026, 11, 26)),
        (timedelta(days=3), date(2026, 11, 28)),
    ],
)
def test_a_run_that_starts_late_has_the_date_of_its_start(delay: timedelta, expected: date) -> None:
    due = datetime(2026, 11, 25, 23, 59, 50, tzinfo=UTC)
    assert night_to_train(due, due + delay, "UTC") == expected


@pytest.mark.usefixtures("prefect_server")
def test_a_night_cannot_fall_back_to_the_bundled_sample() -> None:
    with pytest.raises(ConfigError, match="dataset auto: expected a dataset by name"):
        nightly(RunConfig(dataset="auto"))
    assert newest_flow_run().state_name == "Failed"
