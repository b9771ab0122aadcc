"""The six steps of a run, each telling what it does, and all of them in order.

The pipeline in `flows` takes the same steps as Prefect tasks; `mnist-bp train` takes them here, without Prefect.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from mnist_bp.config import RunConfig
from mnist_bp.data.datasets import DATASETS
from mnist_bp.data.download import fetch
from mnist_bp.data.mirrors import mirrors_of
from mnist_bp.data.preprocess import preprocess_dataset
from mnist_bp.documents import PromotionRecord
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.parallel import check_memory, memory_needed
from mnist_bp.errors import DownloadError
from mnist_bp.layout import run_directory
from mnist_bp.model.parameters import CLASSES, PIXELS
from mnist_bp.results import (
    CachedDataset,
    Evaluation,
    PublishedRun,
    RawDataset,
    TrainedRun,
)
from mnist_bp.storage.address import open_store
from mnist_bp.storage.files import check_writable
from mnist_bp.summary import RunSummary, summarize
from mnist_bp.training.resume import RunRequest
from mnist_bp.training.workspace import lock_run

DOWNLOAD_WAITS: Final = (1.0, 2.0, 4.0)
"""Seconds before a download is tried again after a transport fault, varied by chance: lengthened by up to a half here,
some of them shortened by Prefect for the pipeline's task, so that the average stays."""


class Reporter(Protocol):
    """Told what a step does, for those who follow it."""

    def say(self, message: str, level: int = logging.INFO) -> None:
        """Pass on a line."""

    def progress_bar(self, what: str, total: float | None = None) -> AbstractContextManager[Callable[..., None]]:
        """Show a bar, moved by the function that is given: `completed`, `total` and `note`, by keyword."""


def preflight(config: RunConfig) -> None:
    """Check what a run will need at its end as well as at its start.

    Raises:
        ConfigError: No such device, a batch larger than the dataset, more models than fit in memory, unusable mirrors.
        StoreError: The data directory or the artifacts' place cannot be written to.
    """
    spec = DATASETS["mnist" if config.dataset == "auto" else config.dataset]
    mirrors_of(spec)
    config.held_out(spec.train_examples)
    models = len(config.seed_list)
    if models > 1:
        check_memory(memory_needed(models, PIXELS, config.hidden, CLASSES, spec.train_examples), models)
    if config.engine != "auto":
        choose_engine(config.engine)
    open_store(config.artifacts, attempts=3).check_writable()  # before the data directory is made, if it is new
    check_writable(Path(config.data_dir))


# ---------------------------------------------------------------------------------------------------------------------
# each


def download(config: RunConfig, report: Reporter, *, last_attempt: bool) -> RawDataset:
    """Put the dataset's files in the data directory, or find them intact; see `mnist_bp.data.download`."""
    with report.progress_bar("download") as move:

        def on_progress(completed: float, total: float | None, note: str) -> None:
            move(completed=completed, total=total, note=note)

        raw = fetch(config.dataset, Path(config.data_dir), last_attempt=last_attempt, on_progress=on_progress)
    if raw.notice:
        report.say(raw.notice, logging.WARNING)
    size = sum(file.size for file in raw.files)
    report.say(f"download    {raw.name}: {raw.cache}, {size:,} bytes, digests verified")
    return raw


def preprocess(config: RunConfig, raw: RawDataset, report: Reporter) -> CachedDataset:
    """Build the Parquet cache, or find it intact; see `mnist_bp.data.preprocess`."""
    data = preprocess_dataset(raw, Path(config.data_dir))
    if data.rebuilt:
        report.say(f"the Parquet cache was damaged and has been rebuilt: {data.rebuilt}", logging.WARNING)
    report.say(
        f"preprocess  {data.name}: {data.cache}, {data.train_examples:,} + {data.test_examples:,} images in Parquet"
    )
    return data


def train(config: RunConfig, data: CachedDataset, run_id: str, report: Reporter) -> TrainedRun:
    """Certify the engine, train with it, and write checkpoints as they come; see `mnist_bp.training.run`."""
    from mnist_bp.training.run import train_run  # torch

    with _logged_to(report), report.progress_bar("train", config.steps) as move:
        return train_run(config, data, run_id, on_progress=partial(_move, move))


def evaluate(data: CachedDataset, trained: TrainedRun, report: Reporter) -> Evaluation:
    """Score every checkpoint on the test images, which training has not seen; see `mnist_bp.training.evaluation`."""
    from mnist_bp.training.evaluation import evaluate_run  # torch

    with _logged_to(report), report.progress_bar("evaluate", len(trained.checkpoints)) as move:
        return evaluate_run(data, trained, on_progress=partial(_move, move))


def _move(move: Callable[..., None], completed: float, total: float | None, note: str) -> None:
    move(completed=completed, total=total, note=note)


@contextmanager
def _logged_to(report: Reporter) -> Iterator[None]:
    """Pass what `mnist_bp.training` logs to a reporter: until there are reporters no more."""
    logger, handler = logging.getLogger("mnist_bp.training"), logging.Handler()
    handler.emit = lambda record: report.say(record.getMessage(), record.levelno)  # type: ignore[method-assign]
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def upload(
    config: RunConfig,
    raw: RawDataset,
    data: CachedDataset,
    trained: TrainedRun,
    evaluation: Evaluation,
    report: Reporter,
) -> PublishedRun:
    """Put the run's files where readers look, the manifest last; see `mnist_bp.registry.publish`."""
    from mnist_bp.registry.publish import publish_run  # torch

    published = publish_run(config, raw, data, trained, evaluation)
    report.say(f"upload      {published.files} files, {published.size:,} bytes to {published.artifacts}")
    return published


def promote(config: RunConfig, data: CachedDataset, published: PublishedRun, report: Reporter) -> PromotionRecord:
    """Compare the run with the champion and make it champion if it is better; see `mnist_bp.registry.promotion`."""
    from mnist_bp.registry.promotion import promote_run  # safetensors

    promotion = promote_run(config, data, published)
    unsafe = promotion.figures is not None and promotion.figures.unsafe
    level = logging.WARNING if promotion.outcome == "refused" or unsafe else logging.INFO
    report.say(f"promote     {promotion.outcome}: {promotion.reason}", level)
    return promotion


# ---------------------------------------------------------------------------------------------------------------------
# all


def run_pipeline(run: RunRequest, report: Reporter) -> RunSummary:
    """Make a run, from download to promotion.

    Args:
        run: One that is not finished.
        report: Told what every step does.

    Raises:
        MnistBpError: As the steps do.
    """
    config = run.config
    preflight(config)
    raw = run.with_notice(_download_patiently(config, report))
    data = preprocess(config, raw, report)
    with lock_run(run_directory(config.data_dir, run.run_id)):
        trained = train(config, data, run.run_id, report)
        evaluation = evaluate(data, trained, report)
        published = upload(config, raw, data, trained, evaluation, report)
        promotion = promote(config, data, published, report)
    return summarize(raw, data, trained, evaluation, published, promotion)


def attempt_failed(step: str, attempt: int, error: object) -> str:
    """Say that a download is tried again."""
    return f"{step}: attempt {attempt} of {len(DOWNLOAD_WAITS) + 1} failed: {error}"


def _download_patiently(config: RunConfig, report: Reporter) -> RawDataset:
    """Download, and try again after transport faults: what Prefect does for the task of the pipeline."""
    for attempt, wait in enumerate(DOWNLOAD_WAITS, start=1):
        try:
            return download(config, report, last_attempt=False)
        except DownloadError as exc:
            if not exc.transient:
                raise
            report.say(attempt_failed("download", attempt, exc), logging.WARNING)
        time.sleep(wait * random.uniform(1, 1.5))  # noqa: S311 - no secret
    return download(config, report, last_attempt=True)
