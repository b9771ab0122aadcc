"""Download the dataset, or find it intact."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp import pipeline
from mnist_bp.config import RunConfig
from mnist_bp.results.dataset import RawDataset
from tasks import ui
from tasks.retries import RETRY_TRANSPORT_FAULTS, is_last_attempt


@task(
    task_run_name="download-{config.dataset_name}",
    cache_policy=NO_CACHE,  # the library's cache checks digests before a hit
    **RETRY_TRANSPORT_FAULTS,
)
def download(config: RunConfig, notice: str | None = None) -> RawDataset:
    """Put the dataset's files in the data directory; see `mnist_bp.pipeline.download`."""
    with ui.progress("download") as on_progress:
        return pipeline.download(config, notice, last_attempt=is_last_attempt(), on_progress=on_progress)
