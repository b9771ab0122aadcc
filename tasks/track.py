"""Log the published run to an MLflow server, if `--track` names one."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp import pipeline
from mnist_bp.config import RunConfig
from mnist_bp.registry.tracking import tracking_server


@task(name="track", task_run_name="track-{run_id}", cache_policy=NO_CACHE)  # the library finds what was logged before
def _track(config: RunConfig, run_id: str) -> None:
    pipeline.track(config, run_id)


def track(config: RunConfig, run_id: str) -> None:
    """Log a run as a separate task; see `mnist_bp.pipeline.track`. Without `--track`, no such task appears."""
    if tracking_server(config.track):
        _track(config, run_id)
