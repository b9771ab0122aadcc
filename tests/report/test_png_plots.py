"""Plots across runs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from mnist_bp.documents.manifest import Manifest
from mnist_bp.presets import PRESETS
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.report.png_plots import accuracy_figure, accuracy_png, ladder_figure, orders_figure
from mnist_bp.report.style import LIGHT, SERIES
from mnist_bp.storage.address import open_store
from tests.support.published_runs import checkpoint, manifest_of, publish, run_id_of

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


def runs_of(trainings: Sequence[tuple[str, dict[str, Any]]], dataset: str = "mnist") -> list[Manifest]:
    """Make a run of each preset with some settings changed, a day apart, each better than the one before."""
    runs = []
    for number, (preset, changed) in enumerate(trainings):
        config = PRESETS[preset].model_copy(update=changed)
        run = manifest_of(run_id_of(number), dataset, [1_000], {})
        last = checkpoint(config.steps, 0.9 + number / 1_000)
        day = run.created + timedelta(days=number)
        runs.append(run.model_copy(update={"config": config.record, "checkpoints": (last,), "created": day}))
    return runs


def joined(figure: Figure) -> dict[str, int]:
    """Return the number of points of each line, by its name in the legend; 0 for points without a line."""
    (axes,) = figure.axes
    return {str(line.get_label()): np.size(line.get_xdata()) * (line.get_linestyle() != "None") for line in axes.lines}


def test_runs_of_another_length_or_recipe_are_not_joined_by_a_line() -> None:
    seeds = [("relu-128", {"seed": seed}) for seed in range(3)]
    figure = accuracy_figure(
        runs_of([("lab-8-4", {}), *seeds, ("lab-8-4", {"steps": 77}), ("relu-128", {"shift": 0}), ("lab-8-4", {})]), {}
    )
    assert joined(figure) == {
        "lab-8-4, 10,000 steps": 2,
        "relu-128, 60,000 steps": 3,
        "lab-8-4, 77 steps": 1,
        "relu-128 with shift 0, 60,000 steps": 1,
    }
    assert_legend_is_outside(figure)


def test_many_trainings_are_points_without_a_line_and_the_legend_stays_outside() -> None:
    figure = accuracy_figure(runs_of([("relu-128", {"hidden": 100 + number}) for number in range(20)]), {})
    assert joined(figure)["13 other trainings"] == 0
    assert len(figure.axes[0].lines) == len(SERIES)
    assert_legend_is_outside(figure)


def test_the_newest_run_is_stated_with_its_accuracy_inside_the_picture_and_off_the_legend() -> None:
    runs = runs_of([("lab-8-4", {"seed": seed}) for seed in range(5)])
    figure = accuracy_figure(runs, {runs[0].run_id})
    assert_legend_is_outside(figure)
    (text,) = figure.axes[0].texts
    assert text.get_text() == "0.9040"
    box = text.get_window_extent()
    assert figure.bbox.contains(*box.min)
    assert figure.bbox.contains(*box.max)
    assert not box.overlaps(figure.legends[0].get_window_extent())


def test_a_picture_has_the_colours_of_the_report() -> None:
    picture = imread(io.BytesIO(accuracy_png(runs_of([("lab-8-4", {})]), {})), format="png")
    colours = {
        "#" + bytes(pixel).hex()
        for pixel in np.unique(np.rint(picture * 255).astype(np.uint8)[..., :3].reshape(-1, 3), axis=0)
    }
    assert {LIGHT["paper"], LIGHT["accent"]} <= colours
    assert picture.shape[:2] == (540, 960)
    assert SERIES[:2] == (LIGHT["accent"], LIGHT["warm"])
    assert SERIES[-1] == LIGHT["quiet"]
