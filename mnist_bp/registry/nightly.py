"""The last nights of a dataset at a glance, for whoever looks in the morning: a line of their accuracy, and a table.

A night is a run whose seed is a date. As long as a store has none, all runs stand in for nights; from then on, what was
tried in between, with fewer steps or worse settings, is left out of the line.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any, Final

from mnist_bp.errors import ChecksumError, DataFormatError
from mnist_bp.registry.catalog import CatalogedRun, catalog_runs, list_runs
from mnist_bp.registry.nights import night_of_seed
from mnist_bp.registry.overview import summarize_run
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


def recent_nights(store: Store, dataset: str) -> list[dict[str, Any]]:
    """Gather what the last nights of a dataset achieved; runs that cannot be believed are left out.

    Args:
        store: Where runs were published.
        dataset: Which they were trained on.

    Returns:
        For each night, by date: its `day`, `run_id`, `steps` and `accuracy`, and the `decision` about it: `promoted`,
        `kept` (the champion, that is), `refused`, `damaged`, or None. Empty where all that was looked at is no night's.

    Raises:
        StoreError: The store cannot be read.
    """
    complete = [run for run in list_runs(store) if run.complete]
    looked_at = complete[-RUNS_SEARCHED:]
    ours = [row for run in catalog_runs(store, looked_at) if (row := _row(run, dataset)) is not None]
    nights = [row for row in ours if row["night"]]
    if not nights and len(looked_at) == len(complete):
        nights = ours
    shown = sorted(nights, key=lambda row: (row["day"], row["run_id"]))[-NIGHTS_SHOWN:]
    decisions = in_parallel(partial(_decision, store), [row["run_id"] for row in shown])
    return [{**row, "decision": decision} for row, decision in zip(shown, decisions, strict=True)]


def _row(run: CatalogedRun, dataset: str) -> dict[str, Any] | None:
    """Describe a run of a dataset; None where it is of another, or its manifest makes no sense."""
    about = summarize_run(run, set())
    if about["status"] != "complete" or about["dataset"] != dataset or run.manifest is None:
        return None
    try:
        night = night_of_seed(int(run.manifest["config"]["seed"]))  # of several seeds, not that of the model
        day = night or date.fromisoformat(about["created"][:10])
        accuracy = float(about["accuracy"])
        steps = int(about["steps"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(accuracy):
        return None
    return {"run_id": about["run_id"], "night": night, "day": day, "accuracy": accuracy, "steps": steps}


def _decision(store: Store, run_id: str) -> str | None:
    try:
        promotion = read_promotion(store, run_id)
    except (ChecksumError, DataFormatError):
        return "damaged"
    return promotion.outcome if promotion else None


def nights_headline(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tell in a line how the last night did among all; `rows` as of `recent_nights`, at least one."""
    last, best = rows[-1], max(row["accuracy"] for row in rows)
    return f"{last['accuracy']:.4f} on {_in_short(last['day'])}, best of {len(rows)}: {best:.4f}"


def nights_markdown(dataset: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Show nights as Markdown, for the Prefect UI: a picture, and a table that begins with the newest.

    Args:
        dataset: What was trained on.
        rows: As of `recent_nights`, at least one.
    """
    picture = base64.b64encode(nights_svg(rows)).decode()
    lines = [
        f"| {row['day']} | `{row['run_id']}` | {row['steps']:,} | {row['accuracy']:.4f} | {row['decision'] or ''} |\n"
        for row in reversed(rows)
    ]
    return (
        f"# {dataset}: {nights_headline(rows)}\n\n"
        f"![{_in_words(rows)}](data:image/svg+xml;base64,{picture})\n\n"
        "Accuracy on all test images. A night with a filled mark became champion.\n\n"
        "| night | run | steps | accuracy | decision |\n|---|---|---:|---:|---|\n" + "".join(lines)
    )


def nights_svg(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the accuracy of one night after the other; `rows` as of `recent_nights`, at least one."""
    chart = layout_chart("accuracy", [Line("nights", "main", [*enumerate(row["accuracy"] for row in rows)])], _WIDTH)
    dated = replace(chart, x_ticks=_dates(chart, rows), description=_in_words(rows))
    promoted = [row["decision"] == "promoted" for row in rows]
    return page_environment().get_template("nights.svg").render(chart=dated, promoted=promoted).encode()


def _dates(chart: Chart, rows: Sequence[Mapping[str, Any]]) -> tuple[Tick, ...]:
    """Name days below the axis, each once, the last always."""
    places = [place for place, _ in downsample([(place, 0.0) for place in range(len(rows))], _MAX_DATES)]
    named = {_in_short(rows[place]["day"]): chart.marks[place].x for place in places}
    return tuple(Tick(at, name) for name, at in named.items())


def _in_short(day: date) -> str:
    return f"{day.day} {day:%b}"


def _in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    first, last = rows[0], rows[-1]
    return (
        f"accuracy night after night: {first['accuracy']:.4f} on {first['day']}, "
        f"{last['accuracy']:.4f} on {last['day']}"
    )
