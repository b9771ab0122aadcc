"""Says what happens to both of a run's readers: the Prefect log and, in a script, the terminal.

This module is the `mnist_bp.pipeline.Reporter` of all tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from mnist_bp.cli.console import Terminal
from mnist_bp.errors import MnistBpError
from tasks.progress import ShownProgress

_terminal = Terminal()


def show_on(terminal: Terminal) -> None:
    """Repeat everything on a terminal from now on. For scripts; a served flow has none."""
    global _terminal
    _terminal = terminal


def show(message: str, level: int = logging.INFO) -> None:
    """Say something on the terminal alone."""
    _terminal.say(message, level)


def say(message: str, level: int = logging.INFO) -> None:
    """Log to the current task or flow run, and repeat it on the terminal."""
    get_run_logger().log(level, message)
    show(message, level)


@contextmanager
def decorating(*others: type[MnistBpError]) -> Iterator[None]:
    """Let what only decorates the UI fail without failing the run: of Prefect's errors and, if named, of `others`."""
    try:
        yield
    except Exception as exc:
        if not isinstance(exc, (PrefectException, httpx.HTTPError, *others)):
            raise
        say(f"the Prefect UI lacks something of this run: {exc!r}", logging.WARNING)


def name_flow_run(name: str, tags: Mapping[str, str]) -> None:
    """Give the current flow run another name in the UI, and further tags, such as `dataset:mnist`."""
    if (run_id := flow_run.id) is not None:
        with decorating(), get_client(sync_client=True) as client:
            all_tags = {*flow_run.tags, *(f"{kind}:{value}" for kind, value in tags.items())}
            client.update_flow_run(UUID(run_id), name=name, tags=sorted(all_tags))


def show_table(key: str, rows: list[dict[str, str]], description: str) -> None:
    """Show a table in the UI; under a fixed key it has a history."""
    with decorating():
        create_table_artifact(key=key, table=rows, description=description)


def show_markdown(key: str, text: str, description: str) -> None:
    """Show a Markdown text in the UI; under a fixed key it has a history, in which the description stands for it."""
    with decorating():
        create_markdown_artifact(key=key, markdown=text, description=description)


@contextmanager
def progress_bar(what: str, total: float | None = None) -> Iterator[Callable[..., None]]:
    """Show a bar on the terminal and, of a step whose length is known, in the UI; see `mnist_bp.pipeline.Reporter`."""
    shown = ShownProgress(what, total) if total and flow_run.id else None
    with _terminal.progress_bar(what, total) as draw:

        def move(*, completed: float, note: str = "", **changes: float | None) -> None:
            draw(completed=completed, note=note, **changes)
            if shown is not None:
                with decorating():
                    shown.move(completed, note)

        yield move
    if shown is not None:
        with decorating():
            shown.end()
