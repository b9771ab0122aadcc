"""Publish the run to a directory or an S3-compatible store."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp import pipeline
from mnist_bp.config import RunConfig
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.results.evaluation import Evaluation
from mnist_bp.results.publication import PublishedRun
from mnist_bp.results.training import TrainedRun


@task(task_run_name="upload-{trained.run_id}", cache_policy=NO_CACHE)  # requests to the store have their own retries
def upload(
    config: RunConfig, raw: RawDataset, data: CachedDataset, trained: TrainedRun, evaluation: Evaluation
) -> PublishedRun:
    """Put the run's files into the store, the manifest last; see `mnist_bp.registry.publish`."""
    return pipeline.upload(config, raw, data, trained, evaluation)
