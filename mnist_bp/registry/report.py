"""What the report of a run shows besides its manifest: its models, and the runs before it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from mnist_bp.data.parquet import load_split
from mnist_bp.documents.manifest import Manifest
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.parallel import on_every_core
from mnist_bp.errors import MnistBpError
from mnist_bp.model.parameters import Model, UInt8Array, initial_parameters
from mnist_bp.model.recipe import recipe_of
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import read_log
from mnist_bp.registry.nightly import newest_run
from mnist_bp.report.charts import downsample
from mnist_bp.report.page import RunLink, report_html
from mnist_bp.report.script_data import Snapshot, max_snapshots
from mnist_bp.results.dataset import CachedDataset, DatasetShape
from mnist_bp.results.evaluation import CheckpointScore, Evaluation
from mnist_bp.results.training import TrainedRun
from mnist_bp.storage.interface import Store
from mnist_bp.training.checkpoints import load_checkpoint
from mnist_bp.training.evaluation import Evaluator


def render_report(
    store: Store, manifest: Manifest, data: CachedDataset, trained: TrainedRun, evaluation: Evaluation
) -> bytes:
    """Render the report of a run that is about to be published.

    Args:
        store: Where it will be published: the report links to the champion, and to the run before it, in it.
        manifest: Manifest of the run, without the report itself.
        data: The dataset; its test split is read.
        trained: The run; the checkpoints that are read are verified against their digests.
        evaluation: Its scores.

    Raises:
        ChecksumError, DataFormatError, StoreError: A file of the run or the dataset is damaged, malformed or missing.
    """
    images, labels = load_split(data.test)
    snapshots = _snapshots(images, labels, data.shape, trained, evaluation)
    return report_html(
        manifest,
        evaluation,
        snapshots,
        images,
        labels,
        champion=_champion_before(store, manifest),
        previous=_previous(store, manifest),
    )


def _snapshots(
    images: UInt8Array, labels: UInt8Array, shape: DatasetShape, trained: TrainedRun, evaluation: Evaluation
) -> list[Snapshot]:
    """Evaluate the run's own model before the first step, and at as many checkpoints as a page holds."""
    number, seed, recipe = trained.place(evaluation.seed), evaluation.seed, recipe_of(trained.config)
    last = load_checkpoint(trained.checkpoints[-1].file)[number]
    inputs, hidden = last.W1.shape
    classes = last.W2.shape[1]
    engine, _ = choose_engine(trained.engine if trained.device == "cpu" else "auto")
    evaluator = Evaluator(engine, images, labels, recipe, classes, lab=shape.has_lab_figure(len(images)))
    untrained = initial_parameters(seed, inputs, hidden, classes, recipe.gain)
    scores = {score.step: score for score in evaluation.checkpoints}
    between = max_snapshots(inputs, hidden, classes) - 2
    shown = downsample([(step, 0.0) for step in scores][:-1], between) if between > 0 else []
    files = {point.step: point.file for point in trained.checkpoints}
    shown_scores = [evaluator.score(seed, 0, untrained), *(scores[step] for step, _ in shown), evaluation.final]
    models = [untrained, *(load_checkpoint(files[step])[number] for step, _ in shown), last]

    def snapshot(model: Model, score: CheckpointScore) -> Snapshot:
        return Snapshot(model, score, evaluator.confusion(model))

    return on_every_core(snapshot, models, shown_scores)


def _champion_before(store: Store, manifest: Manifest) -> RunLink | None:
    """Return the champion when a run started, which is the same when its report is rendered again.

    Returns:
        None if there was no champion, if it is no longer in the log's head, or if the log or its manifest is damaged.
    """
    start = manifest.created + timedelta(seconds=1)  # of which the run id has whole seconds
    with suppress(MnistBpError):
        for change in reversed(read_log(store, manifest.dataset.name).champions):
            if change.run_id != manifest.run_id and datetime.fromisoformat(change.at) < start:
                return _link(read_manifest(store, change.run_id)[0])
    return None


def _previous(store: Store, manifest: Manifest) -> RunLink | None:
    """Return the newest run of the dataset before a run; None if no such run has an intact manifest."""
    with suppress(MnistBpError):
        if newest := newest_run(store, manifest.dataset.name, before=manifest.run_id):
            return _link(newest)
    return None


def _link(manifest: Manifest) -> RunLink:
    return RunLink(manifest.run_id, manifest.final.accuracy)
