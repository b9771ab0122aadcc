"""The nightly retraining: the flow of `flows.train`, with the date of the night as the seed.

Served by `deployments/serve.py`. A night that is already trained is found, and not trained again.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from prefect import flow
from prefect.runtime import flow_run

from flows.runtime.crashed_runs import FLOW
from flows.runtime.hooks import HOOKS, completed
from flows.train import retrain
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError
from mnist_bp.pipeline import open_run
from mnist_bp.registry.nightly import night_of, seed_of
from mnist_bp.summary import FinishedRun, RunSummary

NIGHTLY: Final = RunConfig(dataset="mnist")

MAX_DELAY: Final = timedelta(hours=1)
"""Delay from which on a run replaces the nights that were missed, and has today's date."""


@flow(name=FLOW, flow_run_name="nightly", **HOOKS)
def nightly(config: RunConfig = NIGHTLY, timezone: str = "UTC", night: date | None = None) -> RunSummary | FinishedRun:
    """Retrain for one night, unless a published run has the same data, code, settings and seed.

    Args:
        config: Dataset, training settings and store; the date replaces the seed, and the dataset may not be auto.
        timezone: Time zone of the schedule, such as Europe/Zurich; decides the date of the night.
        night: Date of the night; by default the date on which this run was due, or today if it starts late.
    """
    if config.dataset == "auto":
        raise ConfigError("dataset auto: expected a dataset by name, since a night may not end in the bundled sample")
    night = night or night_to_train(flow_run.scheduled_start_time, datetime.now(UTC), timezone)
    run = open_run(config.model_copy(update={"seed": seed_of(night)}))
    return completed(retrain(run, night))


def night_to_train(due: datetime, now: datetime, timezone: str) -> date:
    """Return the date of a nightly run: when it was due; or today, if it starts late.

    So if several nights were missed, only the latest is trained: the other late runs find it.

    Args:
        due: When the run was due, with a time zone.
        now: The time.
        timezone: Time zone of the schedule.

    Raises:
        ConfigError: The time zone does not exist.
    """
    return night_of(now if now - due > MAX_DELAY else due, timezone)
