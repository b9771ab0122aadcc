"""What `bench.steps.measure` found, as a table and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from bench.machine import describe


def table(result: dict[str, Any]) -> Table:
    """Lay out the figures, one row for each way; below them the machine, and what needs saying."""
    ratio = f"x {result['ratio_to']}" if result["ratio_to"] else "ratio"
    rows = Table(
        "way", "us/step", "min to max", ratio, f"{result['whole_steps']:,} steps", "MB", "accuracy",
        title=_title(result), caption="\n".join([describe(result["machine"]), *_remarks(result)]),
        caption_justify="left",
    )  # fmt: skip
    for column in rows.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for way in result["ways"]:
        us = way["us_per_step"]
        rows.add_row(
            way["title"],
            f"{us['median']:,.1f}",
            f"{us['min']:,.1f} to {us['max']:,.1f}",
            f"{way['ratio']:,.1f}" if way["ratio"] else "",
            f"{way['whole_seconds']:,.2f} s",
            f"{way['peak_memory_mb']:,.0f}",
            f"{way['accuracy']:.4f}",
        )
    return rows


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw one bar for each way, on a logarithmic axis: the median, and the range of the rounds.

    Args:
        result: What `measure` returned.
        path: PNG or SVG, by its suffix.
    """
    from matplotlib.figure import Figure  # 1 s; without pyplot there is no display to need

    ways = sorted(result["ways"], key=lambda way: -float(way["us_per_step"]["median"]))
    medians = [way["us_per_step"]["median"] for way in ways]
    ranges = [
        [median - way["us_per_step"]["min"] for median, way in zip(medians, ways, strict=True)],
        [way["us_per_step"]["max"] - median for median, way in zip(medians, ways, strict=True)],
    ]
    colours = ["#c44e52" if way["title"].startswith("mnist-bp") else "#8c96a3" for way in ways]
    figure = Figure(figsize=(9.6, 1.6 + 0.36 * len(ways)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh([way["title"] for way in ways], medians, xerr=ranges, color=colours, ecolor="#444444", capsize=2)
    axes.bar_label(bars, [f"{median:,.1f}" if median < 100 else f"{median:,.0f}" for median in medians], padding=6)
    axes.set(xscale="log", title=_title(result), xlabel=f"microseconds per step\n{result['machine']['cpu']}")
    axes.set_xlim(min(medians, default=1) / 2, max(medians, default=1) * 3)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.savefig(path)


def _title(result: dict[str, Any]) -> str:
    task = result["task"]
    return (
        f"784-{task['hidden']}-{task['classes']}, batch {task['batch_size']}, one thread, {result['dataset']}; "
        f"median of n = {result['runs']} rounds in turn"
    )


def _remarks(result: dict[str, Any]) -> list[str]:
    """Say how many steps a round had, in what ways differ, and why some are not there."""
    steps: dict[int, list[str]] = {}
    for way in result["ways"]:
        steps.setdefault(way["steps_per_round"], []).append(way["name"])
    return [
        "steps per round: " + "; ".join(f"{count:,} {', '.join(names)}" for count, names in steps.items()),
        *(f"{way['title']}: {way['note']}" for way in result["ways"] if way["note"]),
        *(f"{way['title']}: skipped: {way['reason']}" for way in result["skipped"]),
    ]
