"""Publish the run to a directory or an S3-compatible store."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp.config import RunConfig
from mnist_bp.records import CachedDataset, Evaluation, PublishedRun, RawDataset, TrainedRun
from tasks.reporting import say


@task(task_run_name="upload-{trained.run_id}", cache_policy=NO_CACHE)  # the store has its own retries
def upload(
    config: RunConfig, raw: RawDataset, data: CachedDataset, trained: TrainedRun, evaluation: Evaluation
) -> PublishedRun:
    """Put the run's files where readers look, the manifest last; see `mnist_bp.publish`."""
    from mnist_bp.publish import publish_run  # torch

    published = publish_run(config, raw, data, trained, evaluation)
    say(f"upload      {published.files} files, {published.bytes:,} bytes to {published.artifacts}")
    return published
