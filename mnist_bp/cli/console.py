"""What a terminal shows of a run in progress: log lines and progress bars, on stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from mnist_bp import results
from mnist_bp.cli import alive
from mnist_bp.errors import printable
from mnist_bp.pipeline import LOGGERS

_STYLES: Final = {logging.WARNING: "bold yellow"}


class ConsoleHandler(logging.Handler):
    """Prints the message of a log record, unwrapped so that a path in it can be copied."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        self._console.print(Text(printable(record.getMessage()), style=_STYLES.get(record.levelno, "")), soft_wrap=True)
        alive.printed(record.getMessage())


@contextmanager
def logging_to(console: Console) -> Iterator[None]:
    """Print INFO lines and warnings of this project on a console until the block ends."""
    handler = ConsoleHandler(console)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


@contextmanager
def progress_bar(console: Console, stage: str) -> Iterator[results.Progress | None]:
    """Draw a progress bar until the block ends.

    Yields:
        The function that moves the bar, or None if the console is not a terminal.
    """
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    with alive.paused(), Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(stage, total=None, note="")

        def move(completed: float, total: float | None, note: str) -> None:
            progress.update(bar, completed=completed, total=total, note=note)

        yield move
