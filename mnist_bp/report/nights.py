"""The last nights of a dataset at a glance, for whoever looks in the morning: a line of their accuracy, and a table.

A night is a run whose seed is a date. Until there is one, all runs stand in for nights; from then on, what was tried in
between, with fewer steps or worse settings, is left out of the line.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any, Final

from mnist_bp.catalog import CatalogedRun, catalog_runs, in_parallel, list_runs, read_promotion
from mnist_bp.errors import ChecksumError, DataFormatError
from mnist_bp.nights import night_of_seed
from mnist_bp.overview import describe
from mnist_bp.report import page_environment
from mnist_bp.report.charts import Chart, Line, Tick, lay_out, thinned
from mnist_bp.store import Store

MOST: Final = 30
_LOOKED_AT: Final = 4 * MOST
"""Runs among which nights of one dataset are looked for, since the manifest of each has to be read."""

_WIDTH: Final = 720
_MOST_DATES: Final = 8


def recent_nights(store: Store, dataset: str) -> list[dict[str, Any]]:
    """Gather what the last nights of a dataset achieved; runs that cannot be believed are left out.

    Args:
        store: Where runs were published.
        dataset: Which they were trained on.

    Returns:
        For each night, by date, what `mnist_bp.overview.describe` tells; its `day`; and the `decision`
        about it: `promoted`, `kept` (the champion, that is), `damaged`, or None.

    Raises:
        StoreError: The store cannot be read.
    """
    listed = [run for run in list_runs(store) if run.complete][-_LOOKED_AT:]
    rows = [{**describe(run, set()), "night": _night(run)} for run in catalog_runs(store, listed)]
    ours = [row for row in rows if row["status"] == "complete" and row["dataset"] == dataset]
    nights = [row for row in ours if row["night"]]
    dated = [{**row, "day": row["night"] or date.fromisoformat(row["created"][:10])} for row in nights or ours]
    shown = sorted(dated, key=lambda row: (row["day"], row["run_id"]))[-MOST:]
    decisions = in_parallel(partial(_decision, store), [row["run_id"] for row in shown])
    return [{**row, "decision": decision} for row, decision in zip(shown, decisions, strict=True)]


def _night(run: CatalogedRun) -> date | None:
    """Return the date in the settings, which is also that of a night whose model has another of several seeds."""
    seed = (run.manifest or {}).get("config", {}).get("seed")
    return night_of_seed(seed) if isinstance(seed, int) else None


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
    chart = lay_out("accuracy", [Line("nights", "main", [*enumerate(row["accuracy"] for row in rows)])], _WIDTH)
    dated = replace(chart, x_ticks=_dates(chart, rows), description=_in_words(rows))
    promoted = [row["decision"] == "promoted" for row in rows]
    return page_environment().get_template("nights.svg").render(chart=dated, promoted=promoted).encode()


def _dates(chart: Chart, rows: Sequence[Mapping[str, Any]]) -> tuple[Tick, ...]:
    """Name days below the axis, each once, the last always."""
    places = [place for place, _ in thinned([(place, 0.0) for place in range(len(rows))], _MOST_DATES)]
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
