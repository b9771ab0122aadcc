"""What a run shows in Prefect's UI: logs, progress, name, tags and artifacts.

A failed update of the UI never fails the run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import httpx
from prefect import get_client
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from mnist_bp.errors import MnistBpError
from mnist_bp.pipeline import LOGGERS, ProgressBar, no_progress_bar
from mnist_bp.results.common import Progress

logger = logging.getLogger(__name__)

UPDATE_INTERVAL_S: Final = 1.0
"""Seconds until a stage gets a progress artifact, and between two updates of it."""

_PAUSE_AFTER_FAILURE_S: Final = 600.0
"""Seconds without updates after one failed: a server that does not reply holds the stage up for as long as 60."""

_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between attempts to label a flow run."""

_script_progress_bar: ProgressBar = no_progress_bar


# ---------------------------------------------------------------------------------------------------------------------
# logs


def send_logs_to_prefect() -> None:
    """Send INFO lines of this project's loggers to Prefect, under the current flow or task run.

    PREFECT_LOGGING_EXTRA_LOGGERS would do the same if it were set before Prefect is imported, in every process that
    runs flows.
    """
    for logger in map(logging.getLogger, LOGGERS):
        logger.setLevel(logging.INFO)
        if not any(isinstance(handler, APILogHandler) for handler in logger.handlers):
            handler = APILogHandler()
            handler.addFilter(_belongs_to_a_run)
            logger.addHandler(handler)


def _belongs_to_a_run(record: logging.LogRecord) -> bool:
    return hasattr(record, "flow_run_id") or FlowRunContext.get() is not None or TaskRunContext.get() is not None


# ---------------------------------------------------------------------------------------------------------------------
# artifacts, name and tags


@contextmanager
def optional(*others: type[MnistBpError]) -> Iterator[None]:
    """Log a warning instead of raising Prefect's errors and, if named, `others`."""
    try:
        yield
    except Exception as exc:
        if not isinstance(exc, (PrefectException, httpx.HTTPError, *others)):
            raise
        logger.warning(f"could not update Prefect's UI for this run: {exc!r}")


def update_flow_run(name: str, tags: Mapping[str, str], labels: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Rename the current flow run, and add tags such as `dataset:mnist` and labels, which are not shown."""
    if (run_id := flow_run.id) is not None:
        with optional(), get_client(sync_client=True) as client:
            all_tags = {*flow_run.tags, *(f"{kind}:{value}" for kind, value in tags.items())}
            client.update_flow_run(UUID(run_id), name=name, tags=sorted(all_tags))
        if labels:
            with optional():
                label_flow_run(UUID(run_id), labels)


def label_flow_run(run_id: UUID, labels: Mapping[str, Any]) -> None:
    """Add labels to a flow run.

    Prefect's server reads a run's labels before it writes them. On SQLite that fails, with HTTP 503, if it records an
    event in between, as it does when a run starts. Without `Retry-After`, its client would wait for 2 s.

    Raises:
        PrefectException, httpx.HTTPError: The server refused them.
    """
    pauses = iter(_PAUSES_S)

    def retry_soon(response: httpx.Response) -> None:
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            response.headers.setdefault("Retry-After", str(next(pauses, _PAUSES_S[-1])))

    settings = {"event_hooks": {"response": [retry_soon]}}
    with get_client(httpx_settings=settings, sync_client=True) as client:
        client.update_flow_run_labels(run_id, dict(labels))


def show_table(key: str, rows: list[dict[str, str]], description: str) -> None:
    """Create a table artifact; artifacts of one key form a history."""
    with optional():
        create_table_artifact(key=key, table=rows, description=description)


def show_markdown(key: str, text: str, description: str) -> None:
    """Create a Markdown artifact; artifacts of one key form a history, which lists their descriptions."""
    with optional():
        create_markdown_artifact(key=key, markdown=text, description=description)


# ---------------------------------------------------------------------------------------------------------------------
# progress


def show_progress_with(bar: ProgressBar) -> None:
    """Draw the progress of stages with a script's progress bar as well."""
    global _script_progress_bar
    _script_progress_bar = bar


@contextmanager
def progress(stage: str, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """Show the progress of a stage, in the UI if it takes longer than `UPDATE_INTERVAL_S` and its length is known.

    Args:
        stage: Name of the stage; the key of its artifact is `<stage>-progress`.
        clock: Returns the time in seconds.

    Yields:
        The function that the stage calls as it proceeds.
    """
    artifact = _ProgressArtifact(stage, clock)
    with _script_progress_bar(stage) as draw:

        def update(completed: float, total: float | None, note: str) -> None:
            if draw is not None:
                draw(completed, total, note)
            if total:
                with optional():
                    artifact.update(completed, total, note)

        yield update
    with optional():
        artifact.finish()


class _ProgressArtifact:
    """A progress artifact, created at the first update that is due."""

    def __init__(self, stage: str, clock: Callable[[], float]) -> None:
        self._stage = stage
        self._clock = clock
        self._id: UUID | None = None
        self._total = 0.0
        self._failed = False
        self._due = clock() + UPDATE_INTERVAL_S

    def update(self, completed: float, total: float, note: str) -> None:
        """Send the progress if an update is due.

        Raises:
            PrefectException, httpx.HTTPError: The server refused it; the next update is due after a longer pause.
        """
        self._total = total
        if self._clock() >= self._due:
            self._send(completed, note)

    def finish(self) -> None:
        """Send the end of the stage if its last update arrived; raises what `update` does."""
        if self._id is not None and not self._failed:
            self._send(self._total, "")

    def _send(self, completed: float, note: str) -> None:
        description = f"{self._stage}: {completed:,.0f} of {self._total:,.0f}" + (f", {note}" if note else "")
        percent = round(100 * completed / self._total, 1)
        self._failed = True
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                if self._id is None:
                    created = create_progress_artifact(percent, f"{self._stage}-progress", description)
                    assert isinstance(created, UUID)  # a coroutine only inside an event loop
                    self._id = created
                else:
                    update_progress_artifact(self._id, percent, description)
            self._failed = False
        finally:
            self._due = self._clock() + (_PAUSE_AFTER_FAILURE_S if self._failed else UPDATE_INTERVAL_S)
