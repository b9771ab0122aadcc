"""The six stages of a run, each with the lines it logs, and all of them in order.

The flow in `flows/train.py` runs the stages as Prefect tasks; `mnist-bp train` runs them with `run_pipeline`. A stage
imports its room when it is called: torch alone takes a second.
"""

from __future__ import annotations

import logging
import random
import shlex
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from mnist_bp.config import RunConfig
from mnist_bp.data.download import fetch
from mnist_bp.data.preprocess import preprocess_dataset
from mnist_bp.documents.champion import PromotionRecord
from mnist_bp.errors import DownloadError, MnistBpError, counted
from mnist_bp.layout import new_run_id, run_directory
from mnist_bp.metrics import export_metrics, timed
from mnist_bp.preflight import check_memory_for, check_runner, preflight
from mnist_bp.results.common import Progress
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.results.evaluation import Evaluation
from mnist_bp.results.publication import PublishedRun
from mnist_bp.results.training import TrainedRun
from mnist_bp.storage.address import open_store
from mnist_bp.summary import FinishedRun, RunSummary, decision, summarize
from mnist_bp.training.resume import RunRequest, load_resumable_run
from mnist_bp.training.workspace import lock_run

logger = logging.getLogger(__name__)

LOGGERS: Final = ("mnist_bp", "tasks", "flows")
"""Loggers of this project, whose INFO lines describe a run to its user."""

DOWNLOAD_WAITS_S: Final = (1.0, 2.0, 4.0)
"""Seconds before each retry of a download after a transport fault, plus jitter."""

ProgressBar = Callable[[str], AbstractContextManager[Progress | None]]
"""Shows a progress bar for the stage of a name until the block ends; yields what moves it, or None."""


def no_progress_bar(_stage: str) -> AbstractContextManager[None]:
    """Show nothing; a `ProgressBar`."""
    return nullcontext()


# ---------------------------------------------------------------------------------------------------------------------
# the stages


@timed
def download(
    config: RunConfig, notice: str | None = None, *, last_attempt: bool, on_progress: Progress | None = None
) -> RawDataset:
    """Put the dataset's files in the data directory, or find them intact; see `mnist_bp.data.download`.

    Args:
        config: The run.
        notice: Why an interrupted run was started on the bundled sample; None for any other run.
        last_attempt: Whether `auto` falls back to the bundled sample now, rather than raise for a retry.
        on_progress: Called with bytes received, size of the file and its name.
    """
    data_dir, settings = Path(config.data_dir), dict(config)
    raw = fetch(config.dataset, data_dir, settings, last_attempt=last_attempt, on_progress=on_progress)
    if raw.notice:
        logger.warning(raw.notice)
    size = sum(file.size for file in raw.files)
    if raw.own is not None:
        logger.info(f"download    {raw.name}: {raw.own.kind} of your own in {raw.own.place}, {size:,} bytes, hashed")
    else:
        logger.info(f"download    {raw.name}: {raw.cache}, {size:,} bytes, digests verified")
    return replace(raw, notice=raw.notice or notice)


@timed
def preprocess(config: RunConfig, raw: RawDataset) -> CachedDataset:
    """Build the Parquet cache, or find it intact; see `mnist_bp.data.preprocess`."""
    data = preprocess_dataset(raw, Path(config.data_dir))
    if data.rebuilt:
        logger.warning(f"the Parquet cache could not be used and has been rebuilt: {data.rebuilt}")
    examples = f"{data.train_examples:,} + {data.test_examples:,} images in Parquet"
    logger.info(f"preprocess  {data.name}: {data.cache}, {examples}")
    if raw.own is not None:
        _check_own(config, data)
    return data


def _check_own(config: RunConfig, data: CachedDataset) -> None:
    """Log what is known of the user's own images since they were read, and refuse a run that needs more of them.

    Raises:
        ConfigError: A batch larger than the dataset, too many steps, a shift too large for the images, or more models
            than fit in memory.
    """
    from mnist_bp.training.shifts import check_shift

    shape, rule = data.shape, data.test_split
    names = ", ".join(shape.class_names[:10]) + (", ..." if shape.classes > 10 else "")
    logger.info(f"preprocess  {shape.width} x {shape.height} pixels, 8-bit grey; {shape.classes} classes: {names}")
    if rule is not None:
        logger.info(f"preprocess  test images: 1 in {rule.one_in} of each class, chosen with the seed {rule.seed}")
    if data.skipped:
        logger.info(f"preprocess  unreadable pictures that are left out: {data.skipped:,}")
    config.held_out(data.train_examples)
    counted_in_steps = config.for_examples(data.train_examples)
    if config.epochs is not None:
        steps = counted(counted_in_steps.steps, "step")
        logger.info(f"preprocess  {counted(config.epochs, 'epoch')}: {steps}")
    check_memory_for(counted_in_steps, shape.inputs, shape.classes, data.train_examples)
    check_shift(shape, config.grid.largest.shift)


@timed
def train(config: RunConfig, data: CachedDataset, run_id: str, *, on_progress: Progress | None = None) -> TrainedRun:
    """Certify the engine, train, and write checkpoints; see `mnist_bp.training.run`."""
    if config.grid.in_parts:
        from mnist_bp.training.part_run import train_in_parts

        return train_in_parts(config, data, run_id, on_progress=on_progress)
    from mnist_bp.training.run import train_run

    return train_run(config, data, run_id, on_progress=on_progress)


@timed
def evaluate(data: CachedDataset, trained: TrainedRun, *, on_progress: Progress | None = None) -> Evaluation:
    """Score every checkpoint on the test images; see `mnist_bp.training.evaluation`."""
    if trained.parts is not None:
        from mnist_bp.training.part_evaluation import evaluate_parts

        return evaluate_parts(data, trained)
    from mnist_bp.training.evaluation import evaluate_run

    return evaluate_run(data, trained, on_progress=on_progress)


@timed
def upload(
    config: RunConfig, raw: RawDataset, data: CachedDataset, trained: TrainedRun, evaluation: Evaluation
) -> PublishedRun:
    """Put the run's files into the store, the manifest last; see `mnist_bp.registry.publish`."""
    from mnist_bp.registry.publish import publish_run

    published = publish_run(config, raw, data, trained, evaluation)
    logger.info(f"upload      {published.files} files, {published.size:,} bytes to {published.artifacts}")
    return published


@timed
def promote(config: RunConfig, data: CachedDataset, published: PublishedRun) -> PromotionRecord:
    """Compare the run with the champion, and make it champion if it is better; see `mnist_bp.registry.promotion`."""
    from mnist_bp.registry.promotion import promote_run

    promotion = promote_run(config, data, published)
    unsafe = promotion.figures is not None and promotion.figures.unsafe
    level = logging.WARNING if promotion.outcome == "refused" or unsafe else logging.INFO
    logger.log(level, f"promote     {decision(promotion)}")
    return promotion


def track(config: RunConfig, run_id: str) -> None:
    """Log a published run to the tracking server, if there is one; see `mnist_bp.registry.tracking`.

    A failure is a warning: the run is published, and can be logged later.
    """
    from mnist_bp.registry.tracking import log_run, tracking_server

    if (server := tracking_server(config.track)) is None:
        return
    try:
        logged = log_run(server, open_store(config.artifacts), run_id)
    except MnistBpError as exc:
        later = ["mnist-bp", "track", run_id, "--track", server, "--artifacts", config.record["artifacts"]]
        logger.warning(f"the run is published, but not logged: {exc}; to log it later: {shlex.join(later)}")
        return
    logger.info(f"track       {logged.outcome}: {logged.url}")


def write_metrics(summary: RunSummary) -> None:
    """Write gauges for Prometheus, if they are wanted; see `mnist_bp.metrics`."""
    export_metrics(
        summary.dataset,
        accuracy=summary.accuracy,
        promoted=summary.promotion.outcome == "promoted",
        published_bytes=summary.published_bytes,
    )


def find_identical_run(config: RunConfig, data: CachedDataset, night: date) -> FinishedRun | None:
    """Find a published run that the run of a night would only repeat, and if none exists, warn of other code.

    A run by other code is not identical, so two machines with different versions would train each night twice.
    """
    from mnist_bp.registry import nightly

    run_id = nightly.find_identical_run(config, data.key, nightly.days_of(night, datetime.now(UTC).date()))
    if run_id is None:
        from mnist_bp.registry.code import code_difference

        newest = nightly.newest_run(open_store(config.artifacts), data.name)
        if newest is not None and (difference := code_difference(newest)):
            logger.warning(difference)
        return None
    return FinishedRun(run_id=run_id, finished=f"nothing to do: {run_id} has the same data, code, settings and seed")


# ---------------------------------------------------------------------------------------------------------------------
# the whole run


def open_run(config: RunConfig, resume: str | None = None) -> RunRequest:
    """Give a new run its id, or find the one to resume; refuse what would fail later.

    Args:
        config: Settings of a new run; of one to resume, those that differ from the defaults must be its own.
        resume: The run to resume, see `load_resumable_run`, or None.

    Raises:
        ConfigError, ChecksumError, DataFormatError, StoreError, ClusterError: See `load_resumable_run` and
            `mnist_bp.preflight`.
    """
    run = RunRequest(new_run_id(), config) if resume is None else load_resumable_run(resume, config, config.chosen)
    check_runner(run.config)
    if run.manifest is None:
        preflight(run.config)
    return run


def run_pipeline(run: RunRequest, progress_bar: ProgressBar = no_progress_bar) -> RunSummary:
    """Run all stages in this process.

    Args:
        run: A run from `open_run` that is not yet published.
        progress_bar: Shows the progress of the stages that take long.

    Raises:
        MnistBpError: As the stages do.
    """
    config = run.config
    with progress_bar("download") as on_progress:
        raw = _download_with_retries(config, run.notice, on_progress)
    data = preprocess(config, raw)
    config = config.for_examples(data.train_examples)
    with lock_run(run_directory(config.data_dir, run.run_id)):
        with progress_bar("train") as on_progress:
            trained = train(config, data, run.run_id, on_progress=on_progress)
        with progress_bar("evaluate") as on_progress:
            evaluation = evaluate(data, trained, on_progress=on_progress)
        published = upload(config, raw, data, trained, evaluation)
        promotion = promote(config, data, published)
    summary = summarize(raw, data, trained, evaluation, published, promotion)
    write_metrics(summary)
    track(config, run.run_id)
    return summary


def failed_attempt(stage: str, attempt: int, error: object) -> str:
    """Describe a failed attempt of a download that is retried."""
    return f"{stage}: attempt {attempt} of {len(DOWNLOAD_WAITS_S) + 1} failed: {error}"


def _download_with_retries(config: RunConfig, notice: str | None, on_progress: Progress | None) -> RawDataset:
    """Download, and retry after transport faults, as Prefect does for the task."""
    for attempt, wait in enumerate(DOWNLOAD_WAITS_S, start=1):
        try:
            return download(config, notice, last_attempt=False, on_progress=on_progress)
        except DownloadError as exc:
            if not exc.transient:
                raise
            logger.warning(failed_attempt("download", attempt, exc))
        time.sleep(wait * random.uniform(1, 1.5))  # noqa: S311 - no secret
    return download(config, notice, last_attempt=True, on_progress=on_progress)
