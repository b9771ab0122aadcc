"""Tables on stdout, in one style for all commands."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(headings: Collection[str], rows: Iterable[Iterable[str]], *, right: Collection[str] = ()) -> None:
    """Print a table as wide as the terminal allows. Its first column, which names the row, is never wrapped.

    Args:
        headings: One per column.
        rows: The cells of each row.
        right: Headings of the columns that are aligned to the right; their figures are never wrapped.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    for index, heading in enumerate(headings):
        aligned = heading in right
        table.add_column(heading, justify="right" if aligned else "left", no_wrap=aligned or index == 0)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
