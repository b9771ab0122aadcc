"""What all measurements share: their rounds, the statistics of these, and the table that shows them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from bench.machine import describe
from mnist_bp.errors import ConfigError

Log = Callable[[str], None]
"""Called with a line that states what is being measured."""


def silent(_: str) -> None:
    """Log nothing."""


def check_rounds(runs: int) -> None:
    """Refuse to measure nothing.

    Raises:
        ConfigError: `runs` is below 1.
    """
    if runs < 1:
        raise ConfigError(f"bench: {runs} rounds: expected at least 1")


def rounds(name: str, runs: int, log: Log) -> Iterator[bool]:
    """Go through the rounds of a measurement: one that warms up, then `runs` that count.

    Yields:
        Whether the round counts.
    """
    for number in range(runs + 1):
        log(f"{name}: round {number} of {runs}" if number else f"{name}: warm-up")
        yield number > 0


def spread(seconds: list[float]) -> dict[str, Any]:
    """Summarize one figure, such as seconds, of each round."""
    return {
        "seconds": seconds,
        "median": statistics.median(seconds),
        "min": min(seconds),
        "max": max(seconds),
    }


def ratio(figures: list[float], to: list[float]) -> float:
    """Return the median of the ratios within each round."""
    return statistics.median(one / other for one, other in zip(figures, to, strict=True))


def empty_table(
    title: str, machine: Mapping[str, Any], columns: Sequence[str], *remarks: str, text_columns: int = 1
) -> Table:
    """Make a table without rows; below it come the machine and the remarks.

    Args:
        title: What was measured.
        machine: From `bench.machine.header`.
        columns: Their headings.
        remarks: One line each.
        text_columns: How many columns hold text; the columns after them hold figures.
    """
    caption = "\n".join([describe(machine), *remarks])
    table = Table(*columns, title=title, caption=caption, caption_justify="left")
    for column in table.columns[text_columns:]:
        column.justify, column.no_wrap = "right", True
    return table
