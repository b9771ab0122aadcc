"""Train by hand-written backpropagation."""

from __future__ import annotations

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp.config import RunConfig
from mnist_bp.records import CachedDataset, CheckpointFile, TrainedRun
from tasks.reporting import progress_bar, say
from tasks.retries import CONTINUED_ONCE


@task(name="train", task_run_name="train-{data.name}-{config.seeds_label}", cache_policy=NO_CACHE, **CONTINUED_ONCE)
def train_network(config: RunConfig, data: CachedDataset, run_id: str) -> TrainedRun:
    """Certify the engine, train with it, and write checkpoints as they come; see `mnist_bp.runs`."""
    from mnist_bp.runs import train_run  # torch

    models = len(config.population)
    say(f"train       run {run_id}, to be continued with --resume if it is broken off")
    with progress_bar("train", config.steps) as move:

        def on_certified(summary: str, notice: str | None) -> None:
            if notice:
                say(notice, logging.WARNING)
            say(f"train       {summary}")

        def on_progress(step: int, seconds: float) -> None:
            move(completed=step, note=f"{models * step / seconds:,.0f} steps/s")

        def on_checkpoint(point: CheckpointFile) -> None:
            say(f"train       step {point.step:>9,}  {models * point.step / point.seconds:>9,.0f} steps/s")

        def on_warning(message: str) -> None:
            say(message, logging.WARNING)

        trained = train_run(
            config,
            data,
            run_id,
            on_certified=on_certified,
            on_progress=on_progress,
            on_checkpoint=on_checkpoint,
            on_warning=on_warning,
        )
    if trained.resumed:
        say(f"train       continued from step {', then '.join(f'{point.step:,}' for point in trained.resumed)}")
    return trained
