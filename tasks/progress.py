"""Shows in the Prefect UI how far a step has got, if it takes long enough for anyone to look."""

from __future__ import annotations

import time
from typing import Final
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

BETWEEN: Final = 1.0
"""Seconds until a step is worth a request to Prefect's server, and from one request to the next."""

_AFTER_FAILURE: Final = 600.0
"""Seconds until a server that failed is asked again: one that is silent keeps the step waiting for up to 60."""


class ShownProgress:
    """The progress of a step as an artifact, under the key `<what>-progress`; a short step has none.

    Args:
        what: Name of the step.
        total: What it counts up to, more than 0.
    """

    def __init__(self, what: str, total: float) -> None:
        self._what, self._total = what, total
        self._artifact: UUID | None = None
        self._failed = False
        self._due = time.monotonic() + BETWEEN

    def move(self, completed: float, note: str) -> None:
        """Tell how far the step is, unless that was told just now.

        Raises:
            PrefectException, httpx.HTTPError: The server does not take it; it is left alone for a while.
        """
        if time.monotonic() >= self._due:
            self._tell(completed, note)

    def end(self) -> None:
        """Tell that the step is done, if what was told of it last was heard; raises what `move` does."""
        if self._artifact is not None and not self._failed:
            self._tell(self._total, "")

    def _tell(self, completed: float, note: str) -> None:
        about = f"{self._what}: {completed:,.0f} of {self._total:,.0f}" + (f", {note}" if note else "")
        percent = round(100 * completed / self._total, 1)
        self._failed = True
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                self._show(percent, about)
            self._failed = False
        finally:
            self._due = time.monotonic() + (_AFTER_FAILURE if self._failed else BETWEEN)

    def _show(self, percent: float, about: str) -> None:
        if self._artifact is None:
            created = create_progress_artifact(percent, f"{self._what}-progress", about)
            assert isinstance(created, UUID)  # a coroutine where there is an event loop, which no task of ours has
            self._artifact = created
        else:
            update_progress_artifact(self._artifact, percent, about)
