"""What a sweep found: best and spread for each combination of settings, and a picture of all combinations.

Combinations of one or two settings are cells of a heat map; those of more are lines in parallel coordinates. They are
ranked by accuracy on held-out training images, as the run's own model is: nothing is chosen by the test images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from mnist_bp.report.axes import Axis, accuracy_axis
from mnist_bp.report.charts import Polyline, Tick
from mnist_bp.results.evaluation import ModelScores

MAX_ROWS: Final = 40
MAX_CELLS: Final = (24, 16)
MAX_LINES: Final = 300
MAX_TICKS: Final = 16
"""Limits per table (rows), heat map (rows, columns), chart (lines) and axis of a setting (values that are named); more
would not be clearer."""

WIDTH: Final = 860
HEIGHT: Final = 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 60, 16, 34

_FULL_SHADE: Final = 45
"""Strongest colour of a cell in per cent, so that its figure stays readable."""


class Combination(NamedTuple):
    """The models of one combination of settings.

    Args:
        settings: Its values, in the order of `Sweep.names`.
        models: Number of its models, without those that diverged.
        diverged: Number of those that diverged.
        validation: Highest accuracy on held-out training images; NaN without models.
        median, lowest, highest: Accuracies on the test images; NaN without models.
        own: Whether the run's own model is one of them.
    """

    settings: tuple[str, ...]
    models: int
    diverged: int
    validation: float
    median: float
    lowest: float
    highest: float
    own: bool


class HeatCell(NamedTuple):
    """A cell of a heat map: a combination, and the strength of its colour in per cent."""

    about: Combination
    shade: int


@dataclass(frozen=True)
class HeatMap:
    """The median accuracies of the combinations of two settings; the second is empty if only one was swept."""

    row_name: str
    column_name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]


class ParallelAxis(NamedTuple):
    """A vertical axis: of a setting, or of the accuracy."""

    x: float
    name: str
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class ParallelChart:
    """A line for each combination, from axis to axis, ready for a template to draw."""

    axes: tuple[ParallelAxis, ...]
    lines: tuple[Polyline, ...]
    width: int = WIDTH
    height: int = HEIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


@dataclass(frozen=True)
class Sweep:
    """A sweep, ready for a template to draw; it has a heat map or a chart.

    Args:
        names: The settings that have several values.
        combinations: The best by validation accuracy, at most `MAX_ROWS`.
        count: Number of all combinations.
    """

    names: tuple[str, ...]
    combinations: tuple[Combination, ...]
    count: int
    heat_map: HeatMap | None
    chart: ParallelChart | None


def layout_sweep(models: ModelScores) -> Sweep:
    """Summarize the combinations of a sweep, and compute the geometry of their picture.

    Args:
        models: Scores of all models of a sweep; one at least has not diverged.
    """
    values = {name: list(dict.fromkeys(each[name] for each in models.settings)) for name in models.settings[0]}
    several = {name: each for name, each in values.items() if len(each) > 1} or values
    places = [tuple(each.index(settings[name]) for name, each in several.items()) for settings in models.settings]
    texts = {_plain(name): [_text(value) for value in each] for name, each in several.items()}
    combinations = _combinations(
        models, [[of[at] for of, at in zip(texts.values(), each, strict=True)] for each in places]
    )
    ranked = sorted(combinations, key=lambda each: (not each.models, -each.validation))
    medians = [each.median for each in combinations if each.models]
    axis = accuracy_axis(min(medians), max(medians))
    small = len(texts) < 3 and all(len(each) <= most for each, most in zip(texts.values(), MAX_CELLS, strict=False))
    by_place = dict(zip(places, combinations, strict=True))
    return Sweep(
        names=tuple(texts),
        combinations=tuple(ranked[:MAX_ROWS]),
        count=len(combinations),
        heat_map=_heat_map(texts, by_place, axis) if small else None,
        chart=None if small else _chart(texts, by_place, axis),
    )


def _combinations(models: ModelScores, texts: Sequence[Sequence[str]]) -> list[Combination]:
    """Summarize the models of each combination after the last step."""
    accuracy, validation, count = models.accuracy[-1], models.validation[-1], len(texts)
    remaining = np.isfinite(accuracy)
    highest = np.full(count, -np.inf)
    np.maximum.at(highest, models.combination[remaining], validation[remaining])
    order = np.lexsort((accuracy, models.combination))  # by combination, then by accuracy; NaN last
    starts = np.searchsorted(models.combination[order], np.arange(count))
    trained, total = (np.bincount(models.combination, of, count).astype(int) for of in (remaining, None))
    ranked, own = accuracy[order], int(models.combination[models.best])
    found = []
    for number, (start, size) in enumerate(zip(starts, trained, strict=True)):
        group = ranked[start : start + size] if size else np.full(1, np.nan)
        found.append(
            Combination(
                settings=tuple(texts[number]),
                models=int(size),
                diverged=int(total[number] - size),
                validation=float(highest[number]) if size else float("nan"),
                median=float(np.median(group)),
                lowest=float(group[0]),
                highest=float(group[-1]),
                own=number == own,
            )
        )
    return found


def _heat_map(
    texts: Mapping[str, Sequence[str]], by_place: Mapping[tuple[int, ...], Combination], axis: Axis
) -> HeatMap:
    (row_name, rows), (column_name, columns) = (*texts.items(), ("", [""]))[:2]
    paired = len(texts) == 2

    def cell(row: int, column: int) -> HeatCell:
        about = by_place[(row, column) if paired else (row,)]
        return HeatCell(about, round(_FULL_SHADE * axis.place(about.median)) if about.models else 0)

    return HeatMap(
        row_name=row_name,
        column_name=column_name,
        columns=tuple(columns),
        rows=tuple((text, tuple(cell(row, column) for column in range(len(columns)))) for row, text in enumerate(rows)),
    )


def _chart(
    texts: Mapping[str, Sequence[str]], by_place: Mapping[tuple[int, ...], Combination], axis: Axis
) -> ParallelChart:
    gap = (WIDTH - _LEFT - _RIGHT) / len(texts)

    def y(place: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * place, 1)

    def x(number: int) -> float:
        return round(_LEFT + gap * number, 1)

    of_settings = [[Tick(y((at + 0.5) / len(each)), text) for at, text in enumerate(each)] for each in texts.values()]
    of_accuracy = [Tick(y(tick.place), tick.label) for tick in axis.ticks]
    trained = [(place, about) for place, about in by_place.items() if about.models]
    drawn = sorted(trained, key=lambda each: -each[1].validation)[:MAX_LINES]
    lines = []
    for place, about in sorted(drawn, key=lambda each: each[1].own):  # the run's own is drawn last
        heights = [ticks[at].at for ticks, at in zip(of_settings, place, strict=True)]
        points = [*heights, y(axis.place(about.median))]
        text = " ".join(f"{x(number)},{height}" for number, height in enumerate(points))
        lines.append(Polyline("main" if about.own else "faint", text))
    names = [*texts, "median accuracy"]
    named = [ticks[:: -(-len(ticks) // MAX_TICKS)] for ticks in of_settings]
    axes = [ParallelAxis(x(n), names[n], tuple(ticks)) for n, ticks in enumerate([*named, of_accuracy])]
    return ParallelChart(tuple(axes), tuple(lines))


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")
