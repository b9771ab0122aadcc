"""Tables on stdout, in one style for all commands, and the words around them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Final, Literal

from pydantic import JsonValue
from rich.box import SIMPLE_HEAD, Box
from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mnist_bp.errors import printable

_ASCII_HEAD: Final = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""`SIMPLE_HEAD` where the encoding has no lines; rich would separate cells by bars and no blanks."""

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
    lines = [[*map(printable, row), *[""] * len(headings)][: len(headings)] for row in rows]  # a row may end early
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    for index, heading in enumerate(headings):
        whole = max(cell_len(cell) for cell in (heading, *(line[index] for line in lines)))
        justify: Literal["left", "right"] = "right" if heading in right else "left"
        table.add_column(heading, justify=justify, min_width=None if heading in prose else max(1, whole))
    for line in lines:
        table.add_row(*map(Text, line))
    print_whole(table, wrap=bool(prose))


def print_whole(table: Table, *, wrap: bool = False) -> None:
    """Print a table on stdout that is wider than the terminal if it must be, rather than cut.

    Args:
        table: The table.
        wrap: Whether cells may be wrapped where the terminal is too narrow; columns that must not have a `min_width`.
    """
    console = Console()
    if console.options.ascii_only and table.box is SIMPLE_HEAD:
        table.box = _ASCII_HEAD
    needed = Measurement.get(console, console.options.update(width=_UNLIMITED), table)
    width = max(console.width, needed.minimum) if wrap and console.is_terminal else max(1, needed.maximum)
    console.size = ConsoleDimensions(width, console.height)  # with TERM=dumb, a width alone would have no effect
    console.print(table)


def setting_text(value: JsonValue) -> str:
    """Return the value of a setting as a reader expects it."""
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value)
