"""What a person at a terminal is shown of a run, while it is made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

_STYLES: Final = {logging.WARNING: "bold yellow"}


class Terminal:
    """A `mnist_bp.pipeline.Reporter` that writes lines and draws bars; without a console, one that is silent.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console

    def say(self, message: str, level: int = logging.INFO) -> None:
        """Write a line; a path in it stays whole, to be copied."""
        if self._console is not None:
            self._console.print(Text(message, style=_STYLES.get(level, "")), soft_wrap=True)

    @contextmanager
    def progress_bar(self, what: str, total: float | None = None) -> Iterator[Callable[..., None]]:
        """Draw a bar, where the terminal can, until the block ends.

        Yields:
            A function that moves the bar: `completed`, `total` and `note` (a short text after it) by keyword.
        """
        if self._console is None or not self._console.is_terminal:
            yield lambda **_: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            bar = progress.add_task(what, total=total, note="")
            yield lambda **changes: progress.update(bar, **changes)
