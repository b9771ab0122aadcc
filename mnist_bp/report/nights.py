"""The recent nights of a dataset as Markdown for the Prefect UI: a chart of their accuracy, and a table."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby
from typing import Final

from mnist_bp.report.charts import Chart, Line, Polyline, Tick, downsample, layout_chart
from mnist_bp.report.template import page_environment

_WIDTH: Final = 720
"""Width of the chart in pixels."""

_MAX_DATES: Final = 8

_LEGEND_ROW: Final = 22
"""Height of a row of the legend, below the axes, where no point can be."""


@dataclass(frozen=True)
class Night:
    """A run of a dataset, as one of many nights.

    Args:
        run_id: Its id.
        day: The date that its seed stands for, or else the date of its start.
        scheduled: Whether its seed is a date.
        steps: Steps of its last checkpoint.
        accuracy: Accuracy at its last checkpoint, in [0, 1].
        training: How it was trained; see `mnist_bp.presets.training_name`.
        decision: Outcome of its promotion, `damaged`, or None without a promotion record.
        champion: Accuracy of the champion after that decision, in [0, 1]; None if it is unknown.
        url: Address of its report for a browser, or None.
    """

    run_id: str
    day: date
    scheduled: bool
    steps: int
    accuracy: float
    training: str = ""
    decision: str | None = None
    champion: float | None = None
    url: str | None = None


def nights_headline(nights: Sequence[Night]) -> str:
    """Compare the last night with the best one, in one line.

    Args:
        nights: At least one, in order of date.
    """
    last, best = nights[-1], max(night.accuracy for night in nights)
    return f"{last.accuracy:.4f} on {_short(last.day)}, best of {len(nights)}: {best:.4f}"


def nights_markdown(dataset: str, nights: Sequence[Night]) -> str:
    """Show nights as a chart, and as a table that starts with the most recent one.

    Args:
        dataset: Name of the dataset.
        nights: At least one, in order of date.
    """
    svg = base64.b64encode(nights_svg(nights)).decode()
    several = len({night.training for night in nights}) > 1
    heading = f"| night | run | {'training' if several else 'steps'} | accuracy | decision |\n"
    rows = (_row(night, night.training if several else f"{night.steps:,}") for night in reversed(nights))
    return (
        f"# {dataset}: accuracy of each night\n\n"
        f"![{_description(nights)}](data:image/svg+xml;base64,{svg})\n\n"
        "Accuracy on all test images. A night with a filled mark became champion. All nights use the same test images, "
        "so the best of them owes a part of its lead to chance.\n\n"
        f"{heading}|---|---|{'---' if several else '---:'}|---:|---|\n" + "".join(rows)
    )


def _row(night: Night, training: str) -> str:
    run = f"[{night.run_id}]({night.url})" if night.url else f"`{night.run_id}`"  # Prefect shows no code in a link
    return f"| {night.day} | {run} | {training} | {night.accuracy:.4f} | {night.decision or ''} |\n"


def nights_svg(nights: Sequence[Night]) -> bytes:
    """Draw the accuracy of each night, in order of date, and that of the champion after each.

    Neighbours are joined if they were trained alike: a longer training or another recipe is no progress of the same.

    Args:
        nights: At least one.
    """
    champion = _champion_line(nights)
    chart = layout_chart("accuracy", [Line("nights", "main", _points(nights)), *champion], _WIDTH)
    newest = nights[-1].training
    styles = ["main" if night.training == newest else "other" for night in nights]
    runs = [list(run) for _, run in groupby(range(len(nights)), lambda place: nights[place].training)]
    lines = [
        Polyline(styles[run[0]], " ".join(f"{chart.marks[place].x},{chart.marks[place].y}" for place in run))
        for run in runs
    ]
    drawn = [Polyline(style, f"{at} {chart.right},{at.rpartition(',')[2]}") for style, at in chart.polylines[1:]]
    legend = {
        newest or "nights": "main",
        **({"trained otherwise; not joined": "other"} if "other" in styles else {}),
        **({f"champion, {champion[0].points[-1][1]:.4f} now": "champion"} if champion else {}),
    }
    return (
        page_environment()
        .get_template("nights.svg")
        .render(
            chart=replace(
                chart,
                x_ticks=_dates(chart, nights),
                description=_description(nights),
                polylines=(*drawn, *lines),
                legend=legend,
            ),
            styles=[
                f"promoted {style}" if night.decision == "promoted" else style
                for night, style in zip(nights, styles, strict=True)
            ],
            legend_at=chart.height,
            height=chart.height + _LEGEND_ROW * len(legend),
        )
        .encode()
    )


def _points(nights: Sequence[Night]) -> list[tuple[int, float]]:
    return [(place, night.accuracy) for place, night in enumerate(nights)]


def _champion_line(nights: Sequence[Night]) -> list[Line]:
    """Return the champion's accuracy as a line with steps, or nothing if no night states it."""
    known = [(place, night.champion) for place, night in enumerate(nights) if night.champion is not None]
    steps: list[tuple[int, float]] = []
    for place, accuracy in known:
        if steps:
            steps.append((place, steps[-1][1]))
        steps.append((place, accuracy))
    return [Line("champion", "champion", steps)] if steps else []


def _dates(chart: Chart, nights: Sequence[Night]) -> tuple[Tick, ...]:
    """Label some days on the x axis, each once, and always the last."""
    places = [place for place, _ in downsample([(place, 0.0) for place in range(len(nights))], _MAX_DATES)]
    labels = {_short(nights[place].day): chart.marks[place].x for place in places}
    return tuple(Tick(x, label) for label, x in labels.items())


def _short(day: date) -> str:
    return f"{day.day} {day:%b}"


def _description(nights: Sequence[Night]) -> str:
    first, last = nights[0], nights[-1]
    return f"accuracy per night: {first.accuracy:.4f} on {first.day}, {last.accuracy:.4f} on {last.day}"
