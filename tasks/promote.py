"""Let the run challenge the champion of its dataset."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp import pipeline
from mnist_bp.config import RunConfig
from mnist_bp.documents.champion import PromotionRecord
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.results.publication import PublishedRun


@task(task_run_name="promote-{published.run_id}", cache_policy=NO_CACHE)  # requests to the store have their own retries
def promote(config: RunConfig, data: CachedDataset, published: PublishedRun) -> PromotionRecord:
    """Compare the run with the champion, and make it champion if it is better; see `mnist_bp.registry.promotion`."""
    return pipeline.promote(config, data, published)
