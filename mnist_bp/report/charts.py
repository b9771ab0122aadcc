"""Line charts as geometry: where every tick, line and mark lies. The template draws them.

Coordinates are those of an SVG that is HEIGHT high, and WIDTH wide unless told otherwise; its y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

WIDTH: Final = 420
HEIGHT: Final = 270
LEFT, RIGHT, TOP, BOTTOM = 52, 28, 12, 44
"""Margins, in which ticks and the name of the x axis stand."""

_TICKS: Final = 5
"""As many gaps between ticks at most."""


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: For the legend and the marks; lines of one name share an entry.
        style: `main`, `second` or `faint`; only the first has a mark at every point.
        points: Pairs of step and value, in order of step.
    """

    name: str
    style: str
    points: Sequence[tuple[int, float]]


class Tick(NamedTuple):
    """A labelled place on an axis."""

    at: float
    label: str


class Mark(NamedTuple):
    """A point of the main line, with the text that a pointer over it shows."""

    x: float
    y: float
    text: str


class Path(NamedTuple):
    """A line as the `points` of an SVG polyline."""

    style: str
    points: str


@dataclass(frozen=True)
class Chart:
    """A chart that can be drawn."""

    title: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    paths: tuple[Path, ...]
    marks: tuple[Mark, ...]
    legend: dict[str, str]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def layout_chart(title: str, lines: Sequence[Line], width: int = WIDTH) -> Chart:
    """Find out where everything in a chart lies.

    Args:
        title: What the values are.
        lines: At least one with at least one point, in the order they are drawn in; values are finite.
        width: Of the chart, in pixels.
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
        description="; ".join(map(_in_words, main)),
        x_ticks=tuple(Tick(x(step), f"{step:,.0f}") for step in x_values),
        y_ticks=tuple(Tick(y(value), f"{value:.{decimals}f}") for value in y_values),
        paths=tuple(
            Path(line.style, " ".join(f"{x(step)},{y(value)}" for step, value in line.points)) for line in lines
        ),
        marks=tuple(
            Mark(x(step), y(value), f"step {step:,}: {value:.4f}") for line in main for step, value in line.points
        ),
        legend={line.name: line.style for line in lines},
        width=width,
        right=width - RIGHT,
    )


def nice_ticks(low: float, high: float, *, outside: bool = False) -> list[float]:
    """Choose round values for the ticks of an axis, at least two.

    Args:
        low: Where the axis begins.
        high: Where it ends, at least `low`.
        outside: Whether the ticks are to enclose both, rather than lie between them.
    """
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)):  # what float64 cannot divide any further is one value
        span = abs(high) or 1
    raw = span / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    gap = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.floor(low / gap + 1e-9) if outside else math.ceil(low / gap - 1e-9)
    reach = math.ceil(high / gap - 1e-9) if outside else math.floor(high / gap + 1e-9)
    return [count * gap for count in range(first, max(reach, first + 1) + 1)]


def downsample(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """Leave out points at regular distances until few enough are left; the last always stays."""
    stride = math.ceil(len(points) / most)
    return list(points[::-1][::stride][::-1])


def _in_words(line: Line) -> str:
    (first, began), (last, ended) = line.points[0], line.points[-1]
    return f"{line.name}: {began:.4f} at step {first:,}, {ended:.4f} at step {last:,}"
