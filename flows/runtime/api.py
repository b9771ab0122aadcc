"""Which Prefect server a script's flow runs on: the one that settings name, or else one of the script's own."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from flows.runtime.server import STOP_LIMIT, LocalServer, ServerError

REPLY_LIMIT: Final = 4.0
"""Seconds for somebody else's server to answer."""

CONNECT_LIMIT: Final = 1.5
"""Seconds for it to take a connection; Prefect's client tries four times, with waits that add up to 1.5 s."""

_WITHOUT: Final = "do without it: mnist-bp train, with the same flags"


def prestart() -> LocalServer | None:
    """Start a server before Prefect is imported, unless its settings seem to name one: a variable, the active profile.

    A guess, on which nothing depends but time: `use_server` asks Prefect itself.
    """
    if os.environ.get("PREFECT_API_URL", _named_by_profile()):
        return None
    try:
        return LocalServer()
    except (ServerError, OSError):
        return None  # `use_server` tries again, and tells


def _named_by_profile() -> str | None:
    ask = os.environ.get
    path = ask("PREFECT_PROFILES_PATH") or Path(ask("PREFECT_HOME") or "~/.prefect", "profiles.toml")
    try:
        profiles = tomllib.loads(Path(path).expanduser().read_text())
        url: str = profiles["profiles"][ask("PREFECT_PROFILE") or profiles["active"]]["PREFECT_API_URL"]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # RuntimeError: there is no home
        return None
    return url


@contextmanager
def use_server(own: LocalServer | None) -> Iterator[None]:
    """Let flows run on the server that Prefect's settings name; where they name none, on one of our own.

    Args:
        own: One that was started ahead, or None. It is ended, once it has written down what it was told.

    Raises:
        ServerError: The server does not answer, from the start or after it did.
    """
    import httpx
    from prefect.settings import PREFECT_API_URL, temporary_settings

    named = PREFECT_API_URL.value()
    try:
        with ExitStack() as held:
            if named:
                if own is not None:
                    own.stop()
                if problem := ask_health():
                    raise _unreachable(named) from problem
            else:
                server = held.enter_context(own or LocalServer())
                held.enter_context(temporary_settings({PREFECT_API_URL: server.url}))
                held.callback(_drain, server)
            yield
    except (RuntimeError, httpx.TransportError) as exc:
        if isinstance(exc, RuntimeError) and "Failed to reach API" not in str(exc):
            raise
        raise _unreachable(named) from exc


def ask_health() -> Exception | None:
    """Return why the server that Prefect's settings name does not answer, within seconds; None if it does."""
    import httpx
    from prefect import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    limits = {"timeout": httpx.Timeout(REPLY_LIMIT, connect=CONNECT_LIMIT)}
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(limits, sync_client=True) as client:
        return client.api_healthcheck()


def _unreachable(named: str | None) -> ServerError:
    if named is None:
        return ServerError(f"this script's own Prefect server is gone; {_WITHOUT}")
    return ServerError(f"cannot reach the Prefect server at {named}: start it, empty PREFECT_API_URL, or {_WITHOUT}")


def _drain(server: LocalServer) -> None:
    """Send what Prefect still holds of logs and events: task runs reach the server as events alone."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    if server.alive:
        for worker in (APILogWorker, EventsWorker):
            worker.drain_all(timeout=STOP_LIMIT)
