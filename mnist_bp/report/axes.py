"""Axes of charts: the place of a value, from 0 at the start of the axis to 1 at its end, and the labelled ticks.

The error of a network falls by orders of magnitude while it learns. On an axis that is linear in the accuracy, the
untrained network at step 0 would leave no room for the rest; so the axes of learning are logarithmic in error and loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

_MAX_GAPS: Final = 5
"""Gaps between the ticks of a linear axis."""

_MAX_TICKS: Final = 9
"""Ticks of a logarithmic axis; beyond it, only powers of ten have one."""

_SMALLEST_RATIO: Final = 4
"""Values that differ by less than this factor get a linear axis, which has more round values between them."""

_LARGEST_RATIO: Final = 1e9
"""A loss that is smaller than the largest one by more than this factor is drawn at the start of the axis."""

_SMALLEST_ERROR: Final = 1e-4
"""One wrong test image of MNIST's 10,000; a smaller error is drawn there."""


class AxisTick(NamedTuple):
    """A labelled place on an axis, in [0, 1]."""

    place: float
    label: str


@dataclass(frozen=True)
class Axis:
    """An axis.

    Args:
        ticks: In order of place, at least two; the first is at 0, the last at 1.
        place: Returns the place of a value.
    """

    ticks: tuple[AxisTick, ...]
    place: Callable[[float], float]


AxisFactory = Callable[[float, float], Axis]
"""Makes an axis that shows all values from the first argument to the second."""


def linear_axis(low: float, high: float) -> Axis:
    """Make an axis with equal distances for equal differences."""
    ticks = nice_ticks(low, high, outside=True)
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))

    def place(value: float) -> float:
        return (value - ticks[0]) / (ticks[-1] - ticks[0])

    return Axis(tuple(AxisTick(place(tick), f"{tick:.{decimals}f}") for tick in ticks), place)


def loss_axis(low: float, high: float) -> Axis:
    """Make an axis of losses, at least 0, with equal distances for equal ratios."""
    smallest = max(low, high / _LARGEST_RATIO)
    if not _differ(smallest, high):
        return linear_axis(low, high)
    ticks = log_ticks(smallest, high)
    place = _logarithmic(ticks)
    return Axis(tuple(AxisTick(place(tick), f"{tick:g}") for tick in ticks), place)


def accuracy_axis(low: float, high: float) -> Axis:
    """Make an axis of accuracies in [0, 1], on which halving the error is the same distance everywhere."""
    largest, smallest = 1 - low, max(1 - high, _SMALLEST_ERROR)
    if not _differ(smallest, largest):
        return linear_axis(low, high)
    ticks = log_ticks(smallest, largest)
    place = _logarithmic(ticks)
    labels = [f"{1 - tick:.{max(2, -math.floor(math.log10(tick) + 1e-9))}f}" for tick in ticks]
    return Axis(
        tuple(AxisTick(1 - place(tick), label) for tick, label in zip(ticks[::-1], labels[::-1], strict=True)),
        lambda accuracy: 1 - place(1 - accuracy),
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


def log_ticks(low: float, high: float) -> list[float]:
    """Return the values 1, 2 and 5 times a power of ten that enclose a range, or only powers of ten if it is long.

    Args:
        low: Greater than 0.
        high: Greater than `low`.
    """
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 2)
    for factors in ((1, 2, 5), (1,)):
        values = [factor * 10.0**power for power in powers for factor in factors]
        first = max(i for i, value in enumerate(values) if value <= low * (1 + 1e-9))
        last = min(i for i, value in enumerate(values) if value >= high * (1 - 1e-9))
        if last - first < _MAX_TICKS:
            break
    return values[first : last + 1]


def _differ(low: float, high: float) -> bool:
    """Return whether values, of which `low` is at least 0, are so far apart that a logarithmic axis shows more."""
    return low > 0 and high > _SMALLEST_RATIO * low


def _logarithmic(ticks: Sequence[float]) -> Callable[[float], float]:
    span = math.log(ticks[-1] / ticks[0])
    return lambda value: math.log(max(value, ticks[0]) / ticks[0]) / span
