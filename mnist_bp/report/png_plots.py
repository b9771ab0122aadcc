"""Plots across many runs, as PNG files drawn by matplotlib. The charts of a single run are SVG in its report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from mnist_bp.documents.manifest import Manifest

if TYPE_CHECKING:  # takes 1 s to import
    from matplotlib.figure import Figure

_LEGEND: Final[dict[str, Any]] = {"loc": "outside lower center", "ncols": 5}
"""Below the axes, where no point can be."""


def orders_png(steps: Sequence[int], correct: Sequence[Sequence[int]], published: Sequence[int]) -> bytes:
    """Draw `orders_figure` as a PNG of 960x540 pixels."""
    return _png(orders_figure(steps, correct, published))


def orders_figure(steps: Sequence[int], correct: Sequence[Sequence[int]], published: Sequence[int]) -> Figure:
    """Plot the accuracy of many example orders over the steps, with the published accuracy among them.

    Args:
        steps: The steps at which each order was evaluated.
        correct: Images correct among the first 1,000; one row per example order, one column per step.
        published: The published counts, for the first of `steps`.
    """
    figure, axes = _figure()
    for row, counts in enumerate(correct):
        label = f"{len(correct)} example orders" if row == 0 else None
        axes.plot(steps, counts, color="tab:gray", alpha=max(0.02, min(0.5, 16 / len(correct))), label=label)
    means = [sum(counts) / len(counts) for counts in zip(*correct, strict=True)]
    axes.plot(steps, means, color="tab:blue", linewidth=2, label="mean")
    axes.plot(steps[: len(published)], published, color="tab:red", marker="o", label="published")
    title = "Lab 8-4 from its published initial weights"
    axes.set(title=title, xlabel="step", ylabel="correct among the first 1,000 test images (raw pixels)")
    axes.grid(alpha=0.3)
    figure.legend(**_LEGEND)
    return figure


def ladder_png(names: Sequence[str], accuracies: Sequence[Sequence[float]]) -> bytes:
    """Draw `ladder_figure` as a PNG of 960x540 pixels."""
    return _png(ladder_figure(names, accuracies))


def ladder_figure(names: Sequence[str], accuracies: Sequence[Sequence[float]]) -> Figure:
    """Plot the test errors of several recipes, on a logarithmic scale: a point for each seed, and their means.

    Args:
        names: The recipes, in order.
        accuracies: For each recipe, the accuracy of each seed, in [0, 1].
    """
    figure, axes = _figure()
    smallest = 1e-5  # an error of 0 has no place on the scale
    errors = [[max(smallest, 1 - accuracy) * 100 for accuracy in each] for each in accuracies]
    for place, each in enumerate(errors):
        label = f"{len(each)} seeds" if place == 0 else None
        axes.plot([place] * len(each), each, "o", color="tab:gray", alpha=0.5, markeredgewidth=0, label=label)
    means = [sum(each) / len(each) for each in errors]
    axes.plot(range(len(means)), means, color="tab:blue", marker="_", markersize=18, linewidth=1, label="mean")
    for place, mean in enumerate(means):
        text = {"xytext": (12, 4), "textcoords": "offset points", "color": "tab:blue"}
        axes.annotate(f"{1 - mean / 100:.4f}", (place, mean), **text)
    axes.set(title="The same network, trained better: test accuracy", ylabel="wrong test images, %", yscale="log")
    axes.set_xlim(-0.5, len(names) - 0.2)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    figure.legend(**_LEGEND)
    return figure


def accuracy_png(runs: Sequence[Manifest], champions: Collection[str]) -> bytes:
    """Draw `accuracy_figure` as a PNG of 960x540 pixels."""
    return _png(accuracy_figure(runs, champions))


def accuracy_figure(runs: Sequence[Manifest], champions: Collection[str]) -> Figure:
    """Plot the accuracy of runs over their start times, one line per dataset, with champions circled.

    Args:
        runs: At least one, in order of time.
        champions: Run ids.
    """
    figure, axes = _figure()
    for dataset in dict.fromkeys(run.dataset.name for run in runs):
        same = [run for run in runs if run.dataset.name == dataset]
        axes.plot(*_times_and_accuracies(same), marker="o", label=dataset)
    if circled := [run for run in runs if run.run_id in champions]:
        circles = {"s": 160, "facecolors": "none", "edgecolors": "black", "zorder": 3}
        axes.scatter(*_times_and_accuracies(circled), **circles, label="champion")
    axes.set(title="Accuracy of runs", xlabel="start (UTC)", ylabel="accuracy on all test images")
    axes.tick_params(axis="x", rotation=20)
    axes.grid(alpha=0.3)
    figure.legend(**_LEGEND)
    return figure


def _times_and_accuracies(runs: Sequence[Manifest]) -> tuple[list[datetime], list[float]]:
    return [run.created for run in runs], [run.final.accuracy for run in runs]


def _figure() -> tuple[Figure, Any]:
    from matplotlib.figure import Figure  # takes 1 s to import; without pyplot, no display is needed

    figure = Figure(figsize=(9.6, 5.4), dpi=100, layout="constrained")
    return figure, figure.add_subplot()


def _png(figure: Figure) -> bytes:
    png = BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
