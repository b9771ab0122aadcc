"""Tables on stdout, in one style for all commands, and the words around them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_UNLIMITED: Final = 10_000
"""Columns of a console that wraps nothing."""


def print_table(
    headings: Collection[str],
    rows: Iterable[Iterable[str]],
    *,
    right: Collection[str] = (),
    prose: Collection[str] = (),
) -> None:
    """Print a table that loses nothing: a cell is never cut, however narrow the terminal.

    Args:
        headings: One per column.
        rows: The cells of each row.
        right: Headings of the columns that are aligned to the right.
        prose: Headings of the columns whose text is wrapped between words where the terminal is too narrow. Where the
            output is not a terminal, nothing is wrapped, so that a row stays a line.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", no_wrap=heading not in prose)
    for row in rows:
        table.add_row(*map(Text, row))
    print_whole(table)


def print_whole(table: Table) -> None:
    """Print a table on stdout that is wider than the terminal if it must be, rather than cut."""
    console = Console()
    wide = console.options.update(width=_UNLIMITED)
    width, spare = Measurement.get(console, wide, table), len(table.columns)  # an empty column measures 0, and takes 1
    console.width = spare + (max(console.width - spare, width.minimum) if console.is_terminal else width.maximum)
    console.print(table)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 run`, `2 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
