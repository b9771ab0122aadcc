"""Train by hand-written backpropagation."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp import pipeline
from mnist_bp.config import RunConfig
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.results.training import TrainedRun
from tasks import ui
from tasks.retries import RESUME_ONCE


@task(name="train", task_run_name="train-{data.name}-{config.seeds_label}", cache_policy=NO_CACHE, **RESUME_ONCE)
def train_network(config: RunConfig, data: CachedDataset, run_id: str) -> TrainedRun:
    """Certify the engine, train, and write checkpoints; see `mnist_bp.training.run`."""
    with ui.progress("train") as on_progress:
        return pipeline.train(config, data, run_id, on_progress=on_progress)
