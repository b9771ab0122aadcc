"""Plots across many runs, as PNG files drawn by matplotlib. The charts of a single run are SVG in its report."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from mnist_bp.documents.manifest import Manifest
from mnist_bp.presets import training_name
from mnist_bp.report.style import FONTS, LIGHT, SERIES

if TYPE_CHECKING:  # takes 1 s to import
    from matplotlib.figure import Figure

_LEGEND_WIDTH: Final = 110
"""Characters of the names in a row of the legend; a longer name is wrapped."""


@contextmanager
def plot_style() -> Iterator[None]:
    """Give figures that are made and saved in the block the colours and the font of the report."""
    from matplotlib import rc_context
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    settings: Any = {
        "font.family": next((font for font in FONTS if font in installed), "sans-serif"),
        "figure.facecolor": LIGHT["paper"],
        "axes.facecolor": LIGHT["paper"],
        "axes.edgecolor": LIGHT["rule"],
        "axes.labelcolor": LIGHT["quiet"],
        "axes.titlecolor": LIGHT["ink"],
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlesize": 12,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": LIGHT["rule"],
        "xtick.color": LIGHT["quiet"],
        "ytick.color": LIGHT["quiet"],
        "text.color": LIGHT["ink"],
        "legend.frameon": False,
        "legend.labelcolor": LIGHT["quiet"],
        "lines.solid_capstyle": "round",
    }
    with rc_context(settings):
        yield


def orders_png(steps: Sequence[int], correct: Sequence[Sequence[int]], published: Sequence[int]) -> bytes:
    """Draw `orders_figure` as a PNG of 960x540 pixels."""
    with plot_style():
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
        axes.plot(steps, counts, color=LIGHT["quiet"], alpha=max(0.02, min(0.5, 16 / len(correct))), label=label)
    means = [sum(counts) / len(counts) for counts in zip(*correct, strict=True)]
    axes.plot(steps, means, color=LIGHT["accent"], linewidth=2.5, label="mean")
    axes.plot(steps[: len(published)], published, color=LIGHT["warm"], marker="o", label="published")
    title = "Lab 8-4 from its published initial weights"
    axes.set(title=title, xlabel="step", ylabel="correct among the first 1,000 test images (raw pixels)")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _add_legend(figure)
    return figure


def ladder_png(names: Sequence[str], accuracies: Sequence[Sequence[float]]) -> bytes:
    """Draw `ladder_figure` as a PNG of 960x540 pixels."""
    with plot_style():
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
        axes.plot([place] * len(each), each, "o", color=LIGHT["quiet"], alpha=0.5, markeredgewidth=0, label=label)
    means = [sum(each) / len(each) for each in errors]
    axes.plot(range(len(means)), means, color=LIGHT["accent"], marker="_", markersize=18, linewidth=1, label="mean")
    for place, mean in enumerate(means):
        text = {"xytext": (12, 4), "textcoords": "offset points", "color": LIGHT["accent"]}
        axes.annotate(f"{1 - mean / 100:.4f}", (place, mean), **text)
    axes.set(title="The same network, trained better: test accuracy", ylabel="wrong test images, %", yscale="log")
    axes.set_xlim(-0.5, len(names) - 0.2)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(which="minor")
    _add_legend(figure)
    return figure


def accuracy_png(runs: Sequence[Manifest], champions: Collection[str]) -> bytes:
    """Draw `accuracy_figure` as a PNG of 960x540 pixels."""
    with plot_style():
        return _png(accuracy_figure(runs, champions))


def accuracy_figure(runs: Sequence[Manifest], champions: Collection[str]) -> Figure:
    """Plot the accuracy of runs over their start times, with champions circled and the newest run stated.

    A line joins the runs on one dataset that were trained alike; those of the rarest trainings are points without one.

    Args:
        runs: At least one, in order of time.
        champions: Run ids.
    """
    from matplotlib.dates import ConciseDateFormatter

    figure, axes = _figure()
    datasets = len({run.dataset.name for run in runs})
    named = {run.run_id: _training(run, with_dataset=datasets > 1) for run in runs}
    shown = [name for name, _ in Counter(named.values()).most_common(len(SERIES) - 1)]
    for name in dict.fromkeys(named.values()):
        if name in shown:
            colour = SERIES[len(axes.lines)]
            axes.plot(
                *_times_and_accuracies([run for run in runs if named[run.run_id] == name]),
                marker="o",
                color=colour,
                label=name,
            )
    if others := [run for run in runs if named[run.run_id] not in shown]:
        label = f"{len(set(named.values())) - len(shown)} other trainings"
        axes.plot(*_times_and_accuracies(others), "o", color=SERIES[-1], alpha=0.6, label=label)
    if circled := [run for run in runs if run.run_id in champions]:
        circles = {"s": 160, "facecolors": "none", "edgecolors": LIGHT["ink"], "zorder": 3}
        axes.scatter(*_times_and_accuracies(circled), **circles, label="champion")
    newest = runs[-1]
    placed = {"xytext": (8, 8), "textcoords": "offset points", "color": LIGHT["ink"]}
    axes.annotate(f"{newest.final.accuracy:.4f}", (newest.created, newest.final.accuracy), **placed)
    axes.margins(x=0.08, y=0.12)
    title = "Accuracy of runs" if datasets > 1 else f"Accuracy of runs on {newest.dataset.name}"
    axes.set(title=title, xlabel="start (UTC)", ylabel="accuracy on all test images")
    dates: Any = ConciseDateFormatter  # its arguments have no types
    axes.xaxis.set_major_formatter(dates(axes.xaxis.get_major_locator()))
    _add_legend(figure)
    return figure


def _training(run: Manifest, *, with_dataset: bool) -> str:
    name = training_name(run.config, run.final.step, run.models)
    return f"{run.dataset.name}: {name}" if with_dataset else name


def _times_and_accuracies(runs: Sequence[Manifest]) -> tuple[list[datetime], list[float]]:
    return [run.created for run in runs], [run.final.accuracy for run in runs]


def _figure() -> tuple[Figure, Any]:
    from matplotlib.figure import Figure  # takes 1 s to import; without pyplot, no display is needed

    figure = Figure(figsize=(9.6, 5.4), dpi=100, layout="constrained")
    return figure, figure.add_subplot()


def _add_legend(figure: Figure) -> None:
    """Add a legend below the axes, where no point can be, and as wide as its names allow."""
    (axes,) = figure.axes
    handles, labels = axes.get_legend_handles_labels()
    names = [textwrap.fill(label, _LEGEND_WIDTH) for label in labels]
    longest = max(min(len(label), _LEGEND_WIDTH) for label in labels) + 6  # with the sample of the line
    figure.legend(handles, names, loc="outside lower center", ncols=max(1, min(len(names), _LEGEND_WIDTH // longest)))


def _png(figure: Figure) -> bytes:
    png = BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
