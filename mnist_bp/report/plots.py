"""Pictures of many runs, as PNG. Those of a single run are in its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any


def trace_png(steps: Sequence[int], correct: Sequence[Sequence[int]], published: Sequence[int]) -> bytes:
    """Draw the traces of many orders of the examples, and the published one among them.

    Args:
        steps: Of all traces.
        correct: Correct of 1,000, a row for each order and a column for each of `steps`.
        published: For the first of `steps`.

    Returns:
        A PNG of 960x540 pixels.
    """
    figure, axes = _figure()
    for place, trace in enumerate(correct):
        label = f"{len(correct)} orders of the examples" if place == 0 else None
        axes.plot(steps, trace, color="tab:gray", alpha=max(0.02, min(0.5, 16 / len(correct))), label=label)
    means = [sum(figures) / len(figures) for figures in zip(*correct, strict=True)]
    axes.plot(steps, means, color="tab:blue", linewidth=2, label="their mean")
    axes.plot(steps[: len(published)], published, color="tab:red", marker="o", label="published")
    title = "lab 8-4 from its published initial weights"
    axes.set(title=title, xlabel="step", ylabel="correct of the first 1,000 test images, raw pixels")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return _png(figure)


def accuracy_png(runs: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the accuracy of runs over the time they were made, a line for each dataset, champions marked.

    Args:
        runs: At least one, in order of time; see `mnist_bp.registry.overview.summarize_run`.

    Returns:
        A PNG of 960x540 pixels.
    """
    figure, axes = _figure()
    for dataset in dict.fromkeys(run["dataset"] for run in runs):
        ours = [run for run in runs if run["dataset"] == dataset]
        times = [datetime.fromisoformat(run["created"]) for run in ours]
        axes.plot(times, [run["accuracy"] for run in ours], marker="o", label=dataset)
    champions = [run for run in runs if run["champion"]]
    if champions:
        times = [datetime.fromisoformat(run["created"]) for run in champions]
        figures = [run["accuracy"] for run in champions]
        axes.scatter(times, figures, s=160, facecolors="none", edgecolors="black", zorder=3, label="champion")
    axes.set(title="accuracy over runs", xlabel="made (UTC)", ylabel="accuracy on all test images")
    axes.tick_params(axis="x", rotation=20)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return _png(figure)


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # 1 s; without pyplot there is no display to need

    figure = Figure(figsize=(9.6, 5.4), dpi=100, layout="constrained")
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    picture = BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
