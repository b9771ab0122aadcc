"""Build the Parquet cache, or find it intact."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp import pipeline
from mnist_bp.config import RunConfig
from mnist_bp.results.dataset import CachedDataset, RawDataset


@task(task_run_name="preprocess-{raw.name}", cache_policy=NO_CACHE)
def preprocess(config: RunConfig, raw: RawDataset) -> CachedDataset:
    """Convert IDX files to Parquet; see `mnist_bp.data.preprocess`."""
    return pipeline.preprocess(config, raw)
