"""Let the run challenge the champion of its dataset."""

from __future__ import annotations

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp.config import RunConfig
from mnist_bp.records import CachedDataset, Promotion, PublishedRun
from tasks.reporting import say


@task(task_run_name="promote-{published.run_id}", cache_policy=NO_CACHE)  # the store has its own retries
def promote(config: RunConfig, data: CachedDataset, published: PublishedRun) -> Promotion:
    """Compare the run with the champion and make it champion if it is better; see `mnist_bp.promotion`."""
    from mnist_bp.promotion import promote_run  # safetensors

    promotion = promote_run(config, data, published)
    level = logging.WARNING if promotion.outcome == "refused" or "unsafe" in promotion.figures else logging.INFO
    say(f"promote     {promotion.outcome}: {promotion.reason}", level)
    return promotion
