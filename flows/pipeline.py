"""What the flows share: the six steps, and how a run begins."""

from __future__ import annotations

import logging
from datetime import date
from typing import TypeVar, cast

from prefect.states import Completed

from flows.runtime.crashed_runs import crash_zombie_runs, sign_flow_run
from flows.runtime.lifeline import exit_when_serving_process_dies
from flows.runtime.notifications import notify_crashed, notify_not_promoted
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError, StoreError
from mnist_bp.layout import run_directory
from mnist_bp.pipeline import preflight
from mnist_bp.results import CachedDataset, RawDataset
from mnist_bp.storage.address import open_store
from mnist_bp.summary import FinishedRun, RunSummary, headline, markdown, summarize
from mnist_bp.training.resume import RunRequest
from mnist_bp.training.workspace import lock_run
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.preprocess import preprocess
from tasks.promote import promote
from tasks.train import train_network
from tasks.ui import decorating, name_flow_run, say, show_markdown
from tasks.upload import upload

ResultT = TypeVar("ResultT", RunSummary, FinishedRun)


def begin() -> None:
    """Sign the current flow run, mark those that were killed before it, and outlive no process that serves it."""
    exit_when_serving_process_dies()
    with decorating():
        sign_flow_run()
        for dead in crash_zombie_runs():
            say(f"the flow run {dead.name} was killed, and is marked as crashed", logging.WARNING)
            notify_crashed(dead)


def prepare(run: RunRequest, night: date | None = None) -> tuple[RawDataset, CachedDataset]:
    """Refuse what cannot succeed, then take the first two steps: download and preprocess.

    Then, or once they have failed, the flow run is named and tagged by what `auto` has become; no sooner, since a
    script loads its engine meanwhile.
    """
    dataset: str = run.config.dataset
    try:
        preflight(run.config)
        raw = run.with_notice(download(run.config))
        dataset = raw.name
        data = preprocess(run.config, raw)
    except Exception:
        _name(run, dataset, night)
        raise
    _name(run, dataset, night)
    return raw, data


def _name(run: RunRequest, dataset: str, night: date | None) -> None:
    try:
        engine = run.engine
    except ConfigError:  # the run fails of it too, and says so
        engine = run.config.engine
    tags = {"dataset": dataset, "engine": engine, "seed": run.config.seeds_range}
    seeds = run.config.seeds_label if night is None else str(night)
    name_flow_run(f"{dataset}-{engine}-{seeds}", tags if night is None else {**tags, "night": str(night)})


def completed(message: str, result: ResultT) -> ResultT:
    """Make what a flow returns to end with a message, which lists of runs show.

    Returns:
        A state, typed as what the flow's caller gets: Prefect hands on what it holds.
    """
    return cast("ResultT", Completed(message=message, data=result))


def complete(run: RunRequest, raw: RawDataset, data: CachedDataset) -> RunSummary:
    """Take the other four steps, from training to promotion."""
    config = run.config
    with lock_run(run_directory(config.data_dir, run.run_id)):
        trained = train_network(config, data, run.run_id)
        evaluation = evaluate(data, trained)
        published = upload(config, raw, data, trained, evaluation)
        promotion = promote(config, data, published)
    if promotion.outcome != "promoted":
        notify_not_promoted(promotion)
    summary = summarize(raw, data, trained, evaluation, published, promotion)
    show_markdown("run-summary", markdown(summary), headline(summary))
    _show_nights(config, data.name)
    return summary


def _show_nights(config: RunConfig, dataset: str) -> None:
    """Show the last nights of a dataset, of which this run may be one."""
    from mnist_bp.registry.nightly import nights_headline, nights_markdown, recent_nights  # NumPy

    with decorating(StoreError):
        if rows := recent_nights(open_store(config.artifacts), dataset):
            show_markdown(f"accuracy-over-nights-{dataset}", nights_markdown(dataset, rows), nights_headline(rows))
