"""The nightly retraining: the pipeline of `flows.train`, with a seed that is the date of the night.

Served by `deployments/serve.py`. A night that has been trained already is found and not trained again.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from prefect import flow
from prefect.runtime import flow_run

from flows.pipeline import begin, complete, completed, prepare
from flows.runtime.crashed_runs import FLOW
from flows.runtime.notifications import notify_failed
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError
from mnist_bp.registry.nights import night_of, seed_of
from mnist_bp.summary import FinishedRun, RunSummary, headline
from mnist_bp.training.resume import open_run
from tasks.ui import say, show_markdown

NIGHTLY: Final = RunConfig(dataset="mnist")


@flow(name=FLOW, flow_run_name="nightly", on_failure=[notify_failed], on_crashed=[notify_failed])
def nightly(config: RunConfig = NIGHTLY, timezone: str = "UTC", night: date | None = None) -> RunSummary | FinishedRun:
    """Retrain for one night, unless a finished run has the same data, code, settings and seed.

    Args:
        config: As of `mnist-bp/train`; its seed is replaced, and its dataset may not be `auto`.
        timezone: Where the schedule's clock hangs, such as Europe/Zurich: decides the date of the night.
        night: Which; by default that on which this run was due.
    """
    begin()
    if config.dataset == "auto":
        raise ConfigError("dataset auto: expected a dataset by name, since no night may end in the bundled sample")
    night = night or night_of(flow_run.scheduled_start_time, timezone)
    run = open_run(config.model_copy(update={"seed": seed_of(night)}), None)
    raw, data = prepare(run, night)

    from mnist_bp.registry.finished import find_identical_run  # torch

    if finished := find_identical_run(run.config, data.key):
        message = f"nothing to do: {finished} has the same data, code, settings and seed"
        say(f"finished    {message}")
        show_markdown("run-summary", f"# {night}: {message}", f"{night}: {message}")
        return completed(message, FinishedRun(run_id=finished, finished=message))
    summary = complete(run, raw, data)
    return completed(headline(summary), summary)
