"""Line charts as geometry: the position of every tick, line and mark. A template draws them.

Coordinates are those of an SVG of `Chart.width` x `Chart.height`, in which y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

WIDTH: Final = 420
HEIGHT: Final = 270
LEFT, RIGHT, TOP, BOTTOM = 52, 28, 12, 44
"""Margins in pixels, which hold the tick labels and the name of the x axis."""

_MAX_GAPS: Final = 5
"""Gaps between the ticks of an axis."""


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: For the legend and the marks; lines of the same name share a legend entry.
        style: `main`, `second` or `faint`; only `main` has a mark at every point.
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
    """A chart, ready for a template to draw."""

    title: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    polylines: tuple[Polyline, ...]
    marks: tuple[Mark, ...]
    legend: dict[str, str]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def layout_chart(title: str, lines: Sequence[Line], width: int = WIDTH) -> Chart:
    """Compute the geometry of a chart.

    Args:
        title: Name of the values.
        lines: At least one line with at least one point, in drawing order; values are finite.
        width: Width of the chart, in pixels.
    """
    values = [value for line in lines for _, value in line.points]
    x_values = nice_ticks(0, max(step for line in lines for step, _ in line.points))
    y_values = nice_ticks(min(values), max(values), outside=True)
    last = max(x_values[-1], *(step for line in lines for step, _ in line.points))

    def x(step: float) -> float:
        return round(LEFT + (width - LEFT - RIGHT) * step / last, 1)

    def y(value: float) -> float:
        share = (value - y_values[0]) / (y_values[-1] - y_values[0])
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)

    main = [line for line in lines if line.style == "main"]
    decimals = max(0, -math.floor(math.log10(y_values[1] - y_values[0]) + 1e-9))
    return Chart(
        title=title,
        description="; ".join(map(_describe, main)),
        x_ticks=tuple(Tick(x(step), f"{step:,.0f}") for step in x_values),
        y_ticks=tuple(Tick(y(value), f"{value:.{decimals}f}") for value in y_values),
        polylines=tuple(
            Polyline(line.style, " ".join(f"{x(step)},{y(value)}" for step, value in line.points)) for line in lines
        ),
        marks=tuple(
            Mark(x(step), y(value), f"step {step:,}: {value:.4f}") for line in main for step, value in line.points
        ),
        legend={line.name: line.style for line in lines},
        width=width,
        right=width - RIGHT,
    )


def nice_ticks(low: float, high: float, *, outside: bool = False) -> list[float]:
    """Return at least two round values for the ticks of an axis.

    Args:
        low: Start of the axis.
        high: End of the axis, at least `low`.
        outside: Whether the ticks enclose both ends, instead of lying between them.
    """
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)):  # too small for float64 to divide: treated as one value
        span = abs(high) or 1
    raw = span / _MAX_GAPS
    power = 10.0 ** math.floor(math.log10(raw))
    gap = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.floor(low / gap + 1e-9) if outside else math.ceil(low / gap - 1e-9)
    last = math.ceil(high / gap - 1e-9) if outside else math.floor(high / gap + 1e-9)
    return [count * gap for count in range(first, max(last, first + 1) + 1)]


def downsample(points: Sequence[tuple[int, float]], max_points: int) -> list[tuple[int, float]]:
    """Keep at most `max_points` points at regular distances, always including the last."""
    stride = math.ceil(len(points) / max_points)
    return list(points[::-1][::stride][::-1])


def _describe(line: Line) -> str:
    (first_step, first), (last_step, last) = line.points[0], line.points[-1]
    return f"{line.name}: {first:.4f} at step {first_step:,}, {last:.4f} at step {last_step:,}"
