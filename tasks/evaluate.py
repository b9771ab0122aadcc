"""Score every checkpoint on the test images, which training has not seen."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp import pipeline
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.results.evaluation import Evaluation
from mnist_bp.results.training import TrainedRun
from mnist_bp.summary import accuracy_rows
from tasks import ui


@task(task_run_name="evaluate-{data.name}", cache_policy=NO_CACHE)
def evaluate(data: CachedDataset, trained: TrainedRun) -> Evaluation:
    """Score the checkpoints and show them as a table in the UI; see `mnist_bp.training.evaluation`."""
    with ui.progress("evaluate") as on_progress:
        evaluation = pipeline.evaluate(data, trained, on_progress=on_progress)
    ui.show_table(
        "accuracy-per-checkpoint",
        accuracy_rows(evaluation.scores),
        f"{data.name}, accuracy on all test images: {trained.run_id}",
    )
    return evaluation
