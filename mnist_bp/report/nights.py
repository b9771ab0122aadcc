"""The recent nights of a dataset as Markdown for the Prefect UI: a chart of their accuracy, and a table."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from mnist_bp.report.charts import Chart, Line, Tick, downsample, layout_chart
from mnist_bp.report.page import page_environment

_WIDTH: Final = 720
"""Width of the chart in pixels."""

_MAX_DATES: Final = 8


@dataclass(frozen=True)
class Night:
    """A run of a dataset, as one of many nights.

    Args:
        run_id: Its id.
        day: The date that its seed stands for, or else the date of its start.
        scheduled: Whether its seed is a date.
        steps: Steps of its last checkpoint.
        accuracy: Accuracy at its last checkpoint, in [0, 1].
        decision: Outcome of its promotion, `damaged`, or None without a promotion record.
    """

    run_id: str
    day: date
    scheduled: bool
    steps: int
    accuracy: float
    decision: str | None = None


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
    rows = [
        f"| {night.day} | `{night.run_id}` | {night.steps:,} | {night.accuracy:.4f} | {night.decision or ''} |\n"
        for night in reversed(nights)
    ]
    return (
        f"# {dataset}: {nights_headline(nights)}\n\n"
        f"![{_description(nights)}](data:image/svg+xml;base64,{svg})\n\n"
        "Accuracy on all test images. A night with a filled mark became champion. All nights use the same test images, "
        "so the best of them owes a part of its lead to chance.\n\n"
        "| night | run | steps | accuracy | decision |\n|---|---|---:|---:|---|\n" + "".join(rows)
    )


def nights_svg(nights: Sequence[Night]) -> bytes:
    """Draw the accuracy of each night, in order of date.

    Args:
        nights: At least one.
    """
    points = list(enumerate(night.accuracy for night in nights))
    chart = layout_chart("accuracy", [Line("nights", "main", points)], _WIDTH)
    dated = replace(chart, x_ticks=_dates(chart, nights), description=_description(nights))
    promoted = [night.decision == "promoted" for night in nights]
    return page_environment().get_template("nights.svg").render(chart=dated, promoted=promoted).encode()


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
