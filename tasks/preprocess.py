"""Build the Parquet cache, or find it intact."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp.config import RunConfig
from mnist_bp.preprocess import preprocess_dataset
from mnist_bp.records import CachedDataset, RawDataset
from tasks.reporting import say


@task(task_run_name="preprocess-{raw.name}", cache_policy=NO_CACHE)
def preprocess(config: RunConfig, raw: RawDataset) -> CachedDataset:
    """Turn IDX files into Parquet; see `mnist_bp.preprocess`."""
    data = preprocess_dataset(raw, Path(config.data_dir))
    if data.rebuilt:
        say(f"the Parquet cache was damaged and has been rebuilt: {data.rebuilt}", logging.WARNING)
    say(f"preprocess  {data.name}: {data.cache}, {data.train_examples:,} + {data.test_examples:,} images in Parquet")
    return data
