"""Plots across runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mnist_bp.registry.catalog import read_manifest
from mnist_bp.report.png_plots import accuracy_figure, ladder_figure, orders_figure
from mnist_bp.storage.address import open_store
from tests.support.published_runs import checkpoint, publish

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def assert_legend_is_outside(figure: Figure) -> None:
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    (legend,) = figure.legends
    (axes,) = figure.axes
    assert axes.get_legend() is None
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    assert figure.bbox.contains(*legend.get_window_extent().min)
    assert figure.bbox.contains(*legend.get_window_extent().max)


@pytest.mark.parametrize("accuracies", [(0.9, 0.1), (0.1, 0.9), (0.5,)])
def test_the_legend_of_runs_covers_no_point(accuracies: tuple[float, ...]) -> None:
    store = open_store("artifacts")
    runs = []
    for number, accuracy in enumerate(accuracies, start=1):
        points = [checkpoint(1_000, accuracy).model_dump(mode="json")]
        changes = {"checkpoints": points, "created": f"2026-11-23T00:00:0{number}+00:00"}
        for dataset in ("mnist", "fashion-mnist", "kmnist", "mnist-sample"):
            run_id = publish(store, 100 * number + len(dataset), dataset, steps=[1_000], changes=changes)
            runs.append(read_manifest(store, run_id)[0])
    assert_legend_is_outside(accuracy_figure(runs, {runs[-1].run_id}))


def test_the_legend_of_orders_covers_no_point() -> None:
    steps = [1_000, 2_000, 3_000]
    assert_legend_is_outside(orders_figure(steps, [[750, 850, 880], [760, 860, 100]], [752, 858]))


@pytest.mark.parametrize("accuracies", [[[0.83, 0.93], [0.985, 0.986]], [[0.1, 0.1], [1.0, 1.0]]])
def test_the_ladder_has_a_point_for_each_seed_and_names_each_recipe(accuracies: list[list[float]]) -> None:
    figure = ladder_figure(["lab-8-4", "relu-128"], accuracies)
    assert_legend_is_outside(figure)
    (axes,) = figure.axes
    first, _, _ = axes.lines
    assert np.asarray(first.get_ydata()).tolist() == [pytest.approx(100 - 100 * accuracy) for accuracy in accuracies[0]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["lab-8-4", "relu-128"]
    assert [text.get_text() for text in axes.texts] == [f"{sum(each) / 2:.4f}" for each in accuracies]
