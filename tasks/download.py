"""Download the dataset, or find it intact."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp.config import RunConfig
from mnist_bp.download import fetch
from mnist_bp.records import RawDataset
from tasks.reporting import progress_bar, rename_flow_run, say
from tasks.retries import TRANSPORT_RETRIES, is_last_attempt


@task(
    task_run_name="download-{config.dataset}",
    cache_policy=NO_CACHE,  # the library's own cache hashes the bytes before it calls them a hit
    **TRANSPORT_RETRIES,
)
def download(config: RunConfig) -> RawDataset:
    """Put the dataset's files in the data directory; see `mnist_bp.download`."""
    data_dir = Path(config.data_dir)
    with progress_bar("download") as move:

        def on_progress(name: str, received: int, size: int | None) -> None:
            move(completed=received, total=size, note=name)

        raw = fetch(config.dataset, data_dir, last_attempt=is_last_attempt(), on_progress=on_progress)
    if raw.name != config.dataset:  # `auto` has become a dataset
        rename_flow_run(f"{raw.name}-{config.engine}-{config.seeds_label}")
    if raw.notice:
        say(raw.notice, logging.WARNING)
    say(f"download    {raw.name}: {raw.cache}, {sum(file.bytes for file in raw.files):,} bytes, digests verified")
    return raw
