"""Download the dataset, or find it intact."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp import pipeline
from mnist_bp.config import RunConfig
from mnist_bp.results import RawDataset
from tasks import ui as ui
from tasks.retries import TRANSPORT_RETRIES, is_last_attempt


@task(
    task_run_name="download-{config.dataset}",
    cache_policy=NO_CACHE,  # the library's own cache hashes the bytes before it calls them a hit
    **TRANSPORT_RETRIES,
)
def download(config: RunConfig) -> RawDataset:
    """Put the dataset's files in the data directory; see `mnist_bp.data.download`."""
    return pipeline.download(config, ui, last_attempt=is_last_attempt())
