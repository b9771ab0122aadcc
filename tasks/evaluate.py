"""Score every checkpoint on the test images, which training has not seen."""

from __future__ import annotations

from dataclasses import asdict

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_bp.records import CachedDataset, CheckpointScore, Evaluation, TrainedRun
from mnist_bp.summary import accuracy_rows
from tasks.reporting import progress_bar, say, show_table


@task(task_run_name="evaluate-{data.name}", cache_policy=NO_CACHE)
def evaluate(data: CachedDataset, trained: TrainedRun) -> Evaluation:
    """Score the checkpoints and show them as a table in the UI; see `mnist_bp.evaluation`."""
    from mnist_bp.evaluation import evaluate_run  # torch

    with progress_bar("evaluate", len(trained.checkpoints)) as move:
        done = 0

        def on_score(score: CheckpointScore) -> None:
            nonlocal done
            done += 1
            move(completed=done)
            say(
                f"evaluate    step {score.step:>9,}  accuracy {score.accuracy:.4f}  "
                f"lab {score.lab_correct_of_1000}/1,000  loss {score.loss:.4f}"
            )

        evaluation = evaluate_run(data, trained, on_score=on_score)
    show_table(
        "accuracy-per-checkpoint",
        accuracy_rows([asdict(score) for score in evaluation.checkpoints]),
        f"{trained.run_id}: {data.name}, accuracy on all test images",
    )
    return evaluation
