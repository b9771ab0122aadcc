"""What the flows share: the six steps, and how a run begins."""

from __future__ import annotations

import logging

from mnist_bp.preflight import preflight
from mnist_bp.records import CachedDataset, RawDataset
from mnist_bp.resume import WantedRun
from mnist_bp.run_directory import run_directory, working_on
from mnist_bp.summary import Summary, markdown, summarize
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.living import bury_dead_runs, sign_flow_run
from tasks.notify import tell_of_burial, tell_of_refusal
from tasks.preprocess import preprocess
from tasks.promote import promote
from tasks.reporting import decorating, say, show_markdown
from tasks.train import train_network
from tasks.upload import upload


def begin() -> None:
    """Sign the current flow run, and mark those that were killed before it."""
    with decorating():
        sign_flow_run()
        for dead in bury_dead_runs():
            say(f"the flow run {dead.name} was killed, and is marked as crashed", logging.WARNING)
            tell_of_burial(dead)


def prepare(run: WantedRun) -> tuple[RawDataset, CachedDataset]:
    """Refuse what cannot succeed, then take the first two steps: download and preprocess."""
    preflight(run.config)
    raw = run.noticed(download(run.config))
    return raw, preprocess(run.config, raw)


def complete(run: WantedRun, raw: RawDataset, data: CachedDataset) -> Summary:
    """Take the other four steps, from training to promotion."""
    config = run.config
    with working_on(run_directory(config.data_dir, run.run_id)):
        trained = train_network(config, data, run.run_id)
        evaluation = evaluate(data, trained)
        published = upload(config, raw, data, trained, evaluation)
        promotion = promote(config, data, published)
    if promotion.outcome == "refused":
        tell_of_refusal(promotion)
    summary = summarize(raw, data, trained, evaluation, published, promotion)
    show_markdown("run-summary", markdown(summary))
    return summary
