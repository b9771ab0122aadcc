"""The training pipeline as a Prefect flow: download, preprocess, train, evaluate, upload, promote.

As a script: `python flows/train.py --help`.
"""

from __future__ import annotations

if __name__ == "__main__":  # before Prefect is imported, since it reads its settings then
    from flows.runtime.script import Script

    script = Script()

from datetime import date

from prefect import flow

from flows.runtime.crashed_runs import FLOW
from flows.runtime.hooks import HOOKS, completed, name_flow_run
from mnist_bp.config import RunConfig
from mnist_bp.layout import run_directory
from mnist_bp.pipeline import find_identical_run, open_run
from mnist_bp.summary import FinishedRun, RunSummary, published_already, summarize
from mnist_bp.training.resume import RunRequest
from mnist_bp.training.workspace import lock_run
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.preprocess import preprocess
from tasks.promote import promote
from tasks.track import track
from tasks.train import train_network
from tasks.upload import upload


@flow(name=FLOW, flow_run_name="{config.dataset_name}-{config.engine}-{config.seeds_label}", **HOOKS)
def train(config: RunConfig = RunConfig(), resume: str | None = None) -> RunSummary | FinishedRun:  # noqa: B008 - frozen
    """Retrain the network from download to publication, and make it champion of its dataset if it is better.

    Args:
        config: Dataset, training settings, and the store to publish to.
        resume: Id of an interrupted run, or latest. It keeps the settings it was started with; other ones are refused.
    """
    run = open_run(config, resume or None)  # a field of a form that was emptied is an empty text
    result = retrain(run) if run.manifest is None else published_already(run)
    track(run.config, result.run_id)
    return completed(result)


def retrain(run: RunRequest, night: date | None = None) -> RunSummary | FinishedRun:
    """Run the six tasks, each of which finds its earlier result instead of repeating it.

    Args:
        run: A new run, or one to resume.
        night: Date of a nightly run, which is not trained if a published run is identical; None for any other run.
    """
    raw = download(run.config, run.notice)
    data = preprocess(run.config, raw)
    config = run.config.for_examples(data.train_examples)
    name_flow_run(run, data.name, night)
    if night and (identical := find_identical_run(config, data, night)):
        return identical
    with lock_run(run_directory(config.data_dir, run.run_id)):
        trained = train_network(config, data, run.run_id)
        evaluation = evaluate(data, trained)
        published = upload(config, raw, data, trained, evaluation)
        promotion = promote(config, data, published)
    return summarize(raw, data, trained, evaluation, published, promotion)


if __name__ == "__main__":
    script.run(train)
