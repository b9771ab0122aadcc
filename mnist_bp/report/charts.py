"""Line charts as geometry: the position of every tick, line and mark. A template draws them.

Coordinates are those of an SVG of `Chart.width` x `Chart.height`, in which y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mnist_bp.report.axes import AxisFactory, linear_axis, nice_ticks

WIDTH: Final = 420
HEIGHT: Final = 270
LEFT, RIGHT, TOP, BOTTOM = 52, 28, 12, 44
"""Margins in pixels, which hold the tick labels and the name of the x axis."""


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: For the legend and the marks; lines of the same name share a legend entry.
        style: `main`, `second`, `faint` or `faint collapsed`; only `main` has a mark at every point.
        points: Pairs of step and value, in order of step.
    """

    name: str
    style: str
    points: Sequence[tuple[int, float]]


class Tick(NamedTuple):
    """A labelled position on an axis."""

    at: float
    label: str


class Mark(NamedTuple):
    """A point of the main line, with the text of its tooltip."""

    x: float
    y: float
    text: str


class Polyline(NamedTuple):
    """A line as the `points` of an SVG polyline."""

    style: str
    points: str


@dataclass(frozen=True)
class Chart:
    """A chart, ready for a template to draw; its x axis ends at `last_step`."""

    title: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    polylines: tuple[Polyline, ...]
    marks: tuple[Mark, ...]
    legend: dict[str, str]
    last_step: float
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    def x(self, step: int) -> float:
        """Return the place of a step on the x axis, in pixels."""
        return round(self.left + (self.right - self.left) * step / self.last_step, 1)


def layout_chart(title: str, lines: Sequence[Line], width: int = WIDTH, y_axis: AxisFactory = linear_axis) -> Chart:
    """Compute the geometry of a chart.

    Args:
        title: Name of the values.
        lines: At least one line with at least one point, in drawing order; values are finite.
        width: Width of the chart, in pixels.
        y_axis: Makes the axis of the values; see `mnist_bp.report.axes`.
    """
    values = [value for line in lines for _, value in line.points]
    x_values = nice_ticks(0, max(step for line in lines for step, _ in line.points))
    axis = y_axis(min(values), max(values))
    last = max(x_values[-1], *(step for line in lines for step, _ in line.points))

    def x(step: float) -> float:
        return round(LEFT + (width - LEFT - RIGHT) * step / last, 1)

    def y(place: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * place, 1)

    main = [line for line in lines if line.style == "main"]
    return Chart(
        title=title,
        description="; ".join(map(_describe, main)),
        x_ticks=tuple(Tick(x(step), f"{step:,.0f}") for step in x_values),
        y_ticks=tuple(Tick(y(tick.place), tick.label) for tick in axis.ticks),
        polylines=tuple(
            Polyline(line.style, " ".join(f"{x(step)},{y(axis.place(value))}" for step, value in line.points))
            for line in lines
        ),
        marks=tuple(
            Mark(x(step), y(axis.place(value)), f"step {step:,}: {value:.4f}")
            for line in main
            for step, value in line.points
        ),
        legend={line.name: line.style for line in lines},
        last_step=last,
        width=width,
        right=width - RIGHT,
    )


def downsample(points: Sequence[tuple[int, float]], max_points: int) -> list[tuple[int, float]]:
    """Keep at most `max_points` points, at least 1, at regular distances, always including the last."""
    stride = max(1, math.ceil(len(points) / max_points))
    return list(points[::-1][::stride][::-1])


def _describe(line: Line) -> str:
    (first_step, first), (last_step, last) = line.points[0], line.points[-1]
    return f"{line.name}: {first:.4f} at step {first_step:,}, {last:.4f} at step {last_step:,}"
