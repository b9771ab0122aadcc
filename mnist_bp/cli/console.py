"""What a terminal shows of a run in progress: log lines and progress bars, on stderr."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from mnist_bp.cli import alive
from mnist_bp.errors import printable
from mnist_bp.pipeline import LOGGERS
from mnist_bp.results import common

_STYLES: Final = {logging.WARNING: "bold yellow"}

_WIDE: Final = 80
"""Columns from which on a bar is drawn; on a narrower terminal, figures alone."""

_NARROW: Final = 60
"""Columns from which on the note and the time so far are shown, too."""


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


class _Figures(ProgressColumn):
    """A column of text that is never cut.

    Args:
        text: Returns the text for the state of a bar.
    """

    def __init__(self, text: Callable[[Task], str]) -> None:
        super().__init__(Column(no_wrap=True))
        self._text = text

    def render(self, task: Task) -> Text:
        """Return the text."""
        return Text(self._text(task))


@contextmanager
def progress_bar(
    console: Console, stage: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[common.Progress | None]:
    """Draw a progress bar with the time that remains, until the block ends.

    Args:
        console: Where to draw it.
        stage: What is in progress, in one word.
        clock: Returns the time in seconds.

    Yields:
        The function that moves the bar, or None where the console cannot draw one.
    """
    if not console.is_interactive:
        yield None
        return
    figures = [_Figures(_amounts), _Figures(lambda task: str(task.fields["note"])), _Figures(_elapsed)]
    columns = (
        TextColumn("{task.description}", markup=False),
        *([BarColumn(bar_width=None)] if console.width >= _WIDE else []),  # takes the room that the figures leave
        *(figures if console.width >= _NARROW else figures[:1]),
        _Figures(_remaining),
    )
    with alive.paused(), Progress(*columns, console=console, transient=True, get_time=clock) as progress:
        bar = progress.add_task(stage, total=None, note="")

        def move(completed: float, total: float | None, note: str) -> None:
            if completed < progress.tasks[0].completed:  # the next of several amounts
                progress.reset(bar, total=total, note=note)
            progress.update(bar, completed=completed, total=total, note=note)

        yield move


def _amounts(task: Task) -> str:
    return f"{task.completed:,.0f}" if task.total is None else f"{task.completed:,.0f}/{task.total:,.0f}"


def _elapsed(task: Task) -> str:
    return str(timedelta(seconds=int(task.elapsed or 0)))


def _remaining(task: Task) -> str:
    return "" if task.time_remaining is None else f"{timedelta(seconds=int(task.time_remaining))} left"
