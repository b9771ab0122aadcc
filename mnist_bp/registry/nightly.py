"""The last nights of a dataset at a glance, for whoever looks in the morning: a line of their accuracy, and a table.

A night is a run whose seed is a date. As long as a store has none, all runs stand in for nights; from then on, what was
tried in between, with fewer steps or worse settings, is left out of the line.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Final

from mnist_bp.errors import ChecksumError, DataFormatError
from mnist_bp.registry.catalog import CatalogedRun, catalog_runs, list_runs
from mnist_bp.registry.nights import night_of_seed
from mnist_bp.registry.promotion_record import read_promotion
from mnist_bp.report.charts import Chart, Line, Tick, downsample, layout_chart
from mnist_bp.report.page import page_environment
from mnist_bp.storage.interface import Store
from mnist_bp.storage.parallel import in_parallel

NIGHTS_SHOWN: Final = 30
RUNS_SEARCHED: Final = 4 * NIGHTS_SHOWN
"""The newest runs, among which nights of one dataset are looked for: the manifest of each has to be read."""

_WIDTH: Final = 720
"""Of the picture, in pixels."""

_MAX_DATES: Final = 8


@dataclass(frozen=True)
class Night:
    """A run of a dataset, as one of many nights.

    Args:
        run_id: The run.
        day: The date that its seed is, or else that of its start.
        scheduled: Whether its seed is a date.
        steps: Of its last checkpoint.
        accuracy: After them, in [0, 1].
        decision: Outcome of its promotion, `damaged`, or None if there is no record of it.
    """

    run_id: str
    day: date
    scheduled: bool
    steps: int
    accuracy: float
    decision: str | None = None


def recent_nights(store: Store, dataset: str) -> list[Night]:
    """Gather what the last nights of a dataset achieved; runs that cannot be believed are left out.

    Args:
        store: Where runs were published.
        dataset: Which they were trained on.

    Returns:
        In order of date; empty where all that was looked at is no night's.

    Raises:
        StoreError: The store cannot be read.
    """
    complete = [run for run in list_runs(store) if run.complete]
    looked_at = complete[-RUNS_SEARCHED:]
    ours = [night for run in catalog_runs(store, looked_at) if (night := _night(run, dataset)) is not None]
    nights = [night for night in ours if night.scheduled]
    if not nights and len(looked_at) == len(complete):
        nights = ours
    shown = sorted(nights, key=lambda night: (night.day, night.run_id))[-NIGHTS_SHOWN:]
    decisions = in_parallel(partial(_decision, store), [night.run_id for night in shown])
    return [replace(night, decision=decision) for night, decision in zip(shown, decisions, strict=True)]


def _night(run: CatalogedRun, dataset: str) -> Night | None:
    """Describe a run of a dataset; None for a run of another dataset, or without an intact manifest."""
    if run.manifest is None or run.manifest.dataset.name != dataset:
        return None
    seed, final = run.manifest.config.get("seed"), run.manifest.final  # of several seeds, not that of the model
    night = night_of_seed(seed) if isinstance(seed, int) else None
    day = night or run.manifest.created.date()
    return Night(run.listed.run_id, day, night is not None, final.step, final.accuracy)


def _decision(store: Store, run_id: str) -> str | None:
    try:
        promotion = read_promotion(store, run_id)
    except (ChecksumError, DataFormatError):
        return "damaged"
    return promotion.outcome if promotion else None


def nights_headline(rows: Sequence[Night]) -> str:
    """Tell in a line how the last night did among all; `rows` as of `recent_nights`, at least one."""
    last, best = rows[-1], max(row.accuracy for row in rows)
    return f"{last.accuracy:.4f} on {_in_short(last.day)}, best of {len(rows)}: {best:.4f}"


def nights_markdown(dataset: str, rows: Sequence[Night]) -> str:
    """Show nights as Markdown, for the Prefect UI: a picture, and a table that begins with the newest.

    Args:
        dataset: What was trained on.
        rows: As of `recent_nights`, at least one.
    """
    picture = base64.b64encode(nights_svg(rows)).decode()
    lines = [
        f"| {row.day} | `{row.run_id}` | {row.steps:,} | {row.accuracy:.4f} | {row.decision or ''} |\n"
        for row in reversed(rows)
    ]
    return (
        f"# {dataset}: {nights_headline(rows)}\n\n"
        f"![{_in_words(rows)}](data:image/svg+xml;base64,{picture})\n\n"
        "Accuracy on all test images. A night with a filled mark became champion.\n\n"
        "| night | run | steps | accuracy | decision |\n|---|---|---:|---:|---|\n" + "".join(lines)
    )


def nights_svg(rows: Sequence[Night]) -> bytes:
    """Draw the accuracy of one night after the other; `rows` as of `recent_nights`, at least one."""
    chart = layout_chart("accuracy", [Line("nights", "main", [*enumerate(row.accuracy for row in rows)])], _WIDTH)
    dated = replace(chart, x_ticks=_dates(chart, rows), description=_in_words(rows))
    promoted = [row.decision == "promoted" for row in rows]
    return page_environment().get_template("nights.svg").render(chart=dated, promoted=promoted).encode()


def _dates(chart: Chart, rows: Sequence[Night]) -> tuple[Tick, ...]:
    """Name days below the axis, each once, the last always."""
    places = [place for place, _ in downsample([(place, 0.0) for place in range(len(rows))], _MAX_DATES)]
    named = {_in_short(rows[place].day): chart.marks[place].x for place in places}
    return tuple(Tick(at, name) for name, at in named.items())


def _in_short(day: date) -> str:
    return f"{day.day} {day:%b}"


def _in_words(rows: Sequence[Night]) -> str:
    first, last = rows[0], rows[-1]
    return f"accuracy night after night: {first.accuracy:.4f} on {first.day}, {last.accuracy:.4f} on {last.day}"
