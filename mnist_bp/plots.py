"""Pictures of a run."""

from __future__ import annotations

from io import BytesIO

from mnist_bp.records import Evaluation


def accuracy_png(evaluation: Evaluation, title: str) -> bytes:
    """Draw accuracy and the lab's own figure over steps.

    Args:
        evaluation: At least one checkpoint.
        title: Names the run.

    Returns:
        A PNG of 960x540 pixels.
    """
    from matplotlib.figure import Figure  # 1 s; without pyplot there is no display to need

    steps = [score.step for score in evaluation.checkpoints]
    figure = Figure(figsize=(9.6, 5.4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, [score.accuracy for score in evaluation.checkpoints], marker="o", label="all test images")
    axes.plot(
        steps,
        [score.lab_correct_of_1000 / 1000 for score in evaluation.checkpoints],
        marker="s",
        linestyle="--",
        label="first 1,000, raw pixels (the lab's own figure)",
    )
    axes.set(title=title, xlabel="step", ylabel="accuracy")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    picture = BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
