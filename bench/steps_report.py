"""The result of `bench.steps.measure` as a table and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from bench.rounds import empty_table
from mnist_bp.report.png_plots import plot_style
from mnist_bp.report.style import LIGHT


def table(result: dict[str, Any]) -> Table:
    """Show one row for each implementation; below them the machine and the remarks."""
    ratio = f"x {result['ratio_to']}" if result["ratio_to"] else "ratio"
    columns = "implementation", "us/step", "min to max", ratio, f"{result['whole_steps']:,} steps", "MB", "accuracy"
    rows = empty_table(_title(result), result["machine"], columns, *_remarks(result))
    for row in result["rows"]:
        us = row["us_per_step"]
        rows.add_row(
            row["title"],
            f"{us['median']:,.1f}",
            f"{us['min']:,.1f} to {us['max']:,.1f}",
            f"{row['ratio']:,.1f}" if row["ratio"] else "",
            f"{row['whole_seconds']:,.2f} s",
            f"{row['peak_memory_mb']:,.0f}",
            f"{row['accuracy']:.4f}",
        )
    return rows


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw one bar for each implementation, on a logarithmic axis: the median, and the range of the rounds.

    Args:
        result: From `bench.steps.measure`.
        path: PNG or SVG, by its suffix.
    """
    from matplotlib.figure import Figure  # 1 s; without pyplot no display is needed

    slowest_first = sorted(result["rows"], key=lambda row: -float(row["us_per_step"]["median"]))
    medians = [row["us_per_step"]["median"] for row in slowest_first]
    ranges = [
        [median - row["us_per_step"]["min"] for median, row in zip(medians, slowest_first, strict=True)],
        [row["us_per_step"]["max"] - median for median, row in zip(medians, slowest_first, strict=True)],
    ]
    titles = [row["title"] for row in slowest_first]
    colours = [LIGHT["accent"] if title.startswith("mnist-bp") else LIGHT["quiet"] for title in titles]
    with plot_style():
        figure = Figure(figsize=(9.6, 1.6 + 0.36 * len(titles)), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        bars = axes.barh(titles, medians, xerr=ranges, color=colours, ecolor=LIGHT["ink"], capsize=2)
        axes.bar_label(bars, [f"{median:,.1f}" if median < 100 else f"{median:,.0f}" for median in medians], padding=6)
        axes.set(xscale="log", title=_title(result), xlabel=f"microseconds per step\n{result['machine']['cpu']}")
        axes.set_xlim(min(medians, default=1) / 2, max(medians, default=1) * 3)
        axes.grid(visible=False, axis="y")
        figure.savefig(path)


def _title(result: dict[str, Any]) -> str:
    task = result["task"]
    return (
        f"784-{task['hidden']}-{task['classes']}, batch {task['batch_size']}, one thread, {result['dataset']}; "
        f"median of n = {result['runs']} rounds in turn"
    )


def _remarks(result: dict[str, Any]) -> list[str]:
    """State the steps of a round, in what implementations differ, and why some were skipped."""
    steps: dict[int, list[str]] = {}
    for row in result["rows"]:
        steps.setdefault(row["steps_per_round"], []).append(row["name"])
    return [
        "steps per round: " + "; ".join(f"{count:,} {', '.join(names)}" for count, names in steps.items()),
        *(f"{row['title']}: {row['note']}" for row in result["rows"] if row["note"]),
        *(f"{each['title']}: skipped: {each['reason']}" for each in result["skipped"]),
    ]
