"""The nightly retraining: the flow of `flows.train`, with the date of the night as the seed.

Served by `deployments/serve.py`. A night that is already trained is found, and not trained again.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from prefect import State, flow
from prefect.runtime import flow_run

from flows.runtime.crashed_runs import FLOW
from flows.runtime.hooks import HOOKS, completed
from flows.runtime.nights import supersede_earlier_nights
from flows.train import retrain
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError
from mnist_bp.pipeline import open_run
from mnist_bp.presets import PRESETS
from mnist_bp.registry.nightly import night_of, seed_of
from mnist_bp.summary import FinishedRun, RunSummary
from tasks.track import track

NIGHTLY: Final = PRESETS["relu-128"].model_copy(update={"dataset": "mnist"})
"""Trained each night: seeds of relu-128 differ little, so that a new champion is more than a lucky seed."""


@flow(name=FLOW, flow_run_name="nightly", **HOOKS)
def nightly(
    config: RunConfig = NIGHTLY, timezone: str = "UTC", night: date | None = None
) -> RunSummary | FinishedRun | State[Any]:
    """Retrain for one night, unless a published run has the same data, code, settings and seed.

    Args:
        config: Dataset, training settings and store; the date replaces the seed, and the dataset may not be auto.
        timezone: Time zone of the schedule, such as Europe/Zurich; decides the date of the night.
        night: Date of the night; by default the date on which this run was due.
    """
    if config.dataset == "auto":
        raise ConfigError("dataset auto: expected a dataset by name, since a night may not end in the bundled sample")
    if superseded := supersede_earlier_nights():
        return superseded
    night = night or night_of(flow_run.scheduled_start_time, timezone)
    run = open_run(config.model_copy(update={"seed": seed_of(night)}))
    result = retrain(run, night)
    track(run.config, result.run_id)
    return completed(result)
