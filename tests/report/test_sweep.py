"""The picture of a sweep in a report."""

from __future__ import annotations

import numpy as np

from mnist_bp.report.sweep import MAX_LINES, MAX_TICKS, layout_sweep
from mnist_bp.results.evaluation import ModelScores


def test_an_axis_of_many_values_names_few_of_them_and_a_line_passes_through_its_own() -> None:
    settings = [{"learning_rate": rate / 100, "loss": loss} for rate in range(1, 101) for loss in ("a", "b")]
    accuracy = np.linspace(0.1, 0.9, len(settings))[np.newaxis]
    scores = ModelScores(
        accuracy=accuracy,
        loss=accuracy,
        lab=accuracy,
        validation=accuracy,
        per_class=np.repeat(accuracy[..., np.newaxis], 10, 2),
        settings=tuple(settings),
        combination=np.arange(len(settings)),
        seeds=np.ones(len(settings), np.int64),
        steps=(10,),
    )
    chart = layout_sweep(scores).chart
    assert chart is not None
    rates, losses, _ = chart.axes
    assert len(rates.ticks) <= MAX_TICKS
    assert rates.ticks[0].label == "0.01"
    assert [tick.label for tick in losses.ticks] == ["a", "b"]
    assert len({line.points.split()[0] for line in chart.lines}) == 100
    assert len(chart.lines) == len(settings) <= MAX_LINES
