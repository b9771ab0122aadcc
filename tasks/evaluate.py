"""Score every checkpoint on the test images, which training has not seen."""

from __future__ import annotations

from dataclasses import asdict

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp.records import CachedDataset, CheckpointScore, Evaluation, TrainedRun
from mnist_bp.summary import accuracy_rows, describe
from tasks.reporting import progress_bar, say, show_table


@task(task_run_name="evaluate-{data.name}", cache_policy=NO_CACHE)
def evaluate(data: CachedDataset, trained: TrainedRun) -> Evaluation:
    """Score the checkpoints and show them as a table in the UI; see `mnist_bp.evaluation`."""
    from mnist_bp.evaluation import evaluate_run  # torch

    with progress_bar("evaluate", len(trained.checkpoints)) as move:
        done = 0

        def on_scores(scores: list[CheckpointScore]) -> None:
            nonlocal done
            done += 1
            move(completed=done)
            say(f"evaluate    step {scores[0].step:>9,}  {describe(scores)}")

        evaluation = evaluate_run(data, trained, on_scores=on_scores)
    show_table(
        "accuracy-per-checkpoint",
        accuracy_rows([asdict(score) for score in evaluation.scores]),
        f"{trained.run_id}: {data.name}, accuracy on all test images",
    )
    return evaluation
