"""Which Prefect server a script's flow runs on: the one that Prefect's settings name, otherwise a separate one."""

from __future__ import annotations

import http
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from flows.runtime.home import prefect_home
from flows.runtime.password import CLIENT_VARIABLE, export_command
from flows.runtime.server import STOP_TIMEOUT_S, LocalServer, ServerError

REPLY_TIMEOUT_S: Final = 15.0
"""Seconds for a server that settings name to reply."""

CONNECT_TIMEOUT_S: Final = 1.5
"""Seconds for it to accept a connection; Prefect's client tries four times, with waits of 1.5 s in all."""

_HINT: Final = "run without a server: mnist-bp train, with the same flags"

_EXAMPLE: Final = "http://127.0.0.1:4200/api"

_NOT_AN_API: Final = (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.METHOD_NOT_ALLOWED)

_UI_PAGE: Final = re.compile(r"/(dashboard|runs|flows|deployments|automations|settings|login)(/.*)?(\?.*)?$")
"""End of an address that was copied from the UI."""


def prestart() -> LocalServer | None:
    """Start a server before Prefect is imported, unless a variable or the active profile seems to name one.

    This is a guess that saves time; `use_server` asks Prefect itself.
    """
    if os.environ.get("PREFECT_API_URL", _url_in_profile()):
        return None
    try:
        return LocalServer()
    except (ServerError, OSError):
        return None  # `use_server` tries again and reports


def separate_password() -> None:
    """Move user:password in the address of Prefect's server to the setting that is for it: Prefect prints addresses.

    Call this before Prefect is imported. An address of spaces alone becomes an empty one, which names no server.
    """
    if "PREFECT_API_URL" in os.environ:
        os.environ["PREFECT_API_URL"] = os.environ["PREFECT_API_URL"].strip()
    url = os.environ.get("PREFECT_API_URL", _url_in_profile()) or ""
    with suppress(ValueError):  # not an address, which is reported when it is used
        parts = urlsplit(url)
        password, separator, host = parts.netloc.rpartition("@")
        if separator:
            os.environ["PREFECT_API_URL"] = urlunsplit(parts._replace(netloc=host))
            os.environ[CLIENT_VARIABLE] = os.environ.get(CLIENT_VARIABLE) or unquote(password)


def _url_in_profile() -> str | None:
    variable = os.environ.get
    try:
        path = variable("PREFECT_PROFILES_PATH") or prefect_home() / "profiles.toml"
        profiles = tomllib.loads(Path(path).expanduser().read_text())
        url: str = profiles["profiles"][variable("PREFECT_PROFILE") or profiles["active"]]["PREFECT_API_URL"]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # RuntimeError: no home directory
        return None
    return url


@contextmanager
def use_server(prestarted: LocalServer | None) -> Iterator[None]:
    """Run flows on the server that Prefect's settings name, otherwise on a separate one.

    Args:
        prestarted: A server from `prestart`, or None; it is stopped once it has written what it received.

    Raises:
        ServerError: The server does not reply, at the start or later.
    """
    import httpx
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED,
        temporary_settings,
    )

    named = PREFECT_API_URL.value()
    try:
        with ExitStack() as stack:
            if named:
                if prestarted is not None:
                    prestarted.stop()
                require_server(f"empty PREFECT_API_URL, or {_HINT}")
            else:
                server = prestarted or LocalServer()
                own = {
                    PREFECT_API_URL: server.url,
                    PREFECT_API_AUTH_STRING: server.password,
                    PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED: False,  # as `LocalServer` has it
                }
                stack.enter_context(temporary_settings(own))  # which takes a while, as the server does
                stack.enter_context(server)
                stack.callback(lambda: drain() if server.alive else None)
            yield
    except (RuntimeError, httpx.TransportError) as exc:
        if isinstance(exc, RuntimeError) and "Failed to reach API" not in str(exc):
            raise
        if named is None:
            raise ServerError(f"this script's Prefect server has ended; {_HINT}") from exc
        raise unusable(named, exc, f"empty PREFECT_API_URL, or {_HINT}") from exc


def check_health() -> Exception | None:
    """Return why the server that Prefect's settings name cannot be used: no reply, or refused; None if it can."""
    import httpx
    from prefect import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    limits = {"timeout": httpx.Timeout(REPLY_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)}
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(limits, sync_client=True) as client:
        try:
            client.read_flows(limit=1)  # needs the password, as /health does not; Prefect Cloud has it too
        except Exception as exc:  # of any kind, as in api_healthcheck()
            return exc
    return None


def require_server(hint: str) -> str:
    """Return the address of the server that Prefect's settings name, once it has answered a request.

    Args:
        hint: What else to do than to set its address or to start it, such as "start one with make serve".

    Raises:
        ServerError: No server is named, or it cannot be reached, or it refuses; one line says what to set.
    """
    from prefect.settings import PREFECT_API_URL

    url: str | None = PREFECT_API_URL.value()
    if not url:
        raise ServerError(f"no Prefect server is configured: set PREFECT_API_URL, such as {_EXAMPLE}, or {hint}")
    if problem := check_health():
        raise unusable(url, problem, hint) from problem
    return url


def unusable(url: str, problem: Exception, hint: str) -> ServerError:
    """Describe why a server that settings name cannot be used.

    Args:
        url: Its address; the user and password in it are hidden.
        problem: As returned by `check_health`.
        hint: What else to do than to start it.
    """
    status = getattr(getattr(problem, "response", None), "status_code", None)
    if status in _NOT_AN_API or isinstance(problem, ValueError):  # ValueError: a reply that is not Prefect's JSON
        reply = f"HTTP {status}" if status else type(problem).__name__
        expected = f"expected an address that ends in /api or, for Cloud, a workspace{_suggestion(url)}"
        return ServerError(f"the server at {url} has no Prefect API ({reply}): {expected}")
    if status is not None:
        reply = f"the Prefect server at {url} refuses requests (HTTP {status})"
        return ServerError(f"{reply}: {_remedy(status, hint)}")
    suggestion = "" if "://" in url else _suggestion(url)
    return ServerError(
        f"cannot reach the Prefect server at {url} ({type(problem).__name__}): start it, or {hint}{suggestion}"
    )


def _remedy(status: int, hint: str) -> str:
    """Return what to do about a server that replies with a status of failure."""
    if status == http.HTTPStatus.UNAUTHORIZED:
        return f"set {CLIENT_VARIABLE} (for Prefect Cloud PREFECT_API_KEY); that of make serve: {export_command()}"
    if status == http.HTTPStatus.FORBIDDEN:
        hosts = "a host that the server answers (of make serve: 127.0.0.1 or localhost)"
        return f"set {CLIENT_VARIABLE} (for Prefect Cloud PREFECT_API_KEY) to credentials with access, and use {hosts}"
    if status == http.HTTPStatus.UNPROCESSABLE_ENTITY:
        from prefect import __version__

        return f"use a server of Prefect {__version__}, as here, and set {CLIENT_VARIABLE} if it has a password"
    return f"see its log, or {hint}; set {CLIENT_VARIABLE} if it, or a proxy in front of it, has a password"


def _suggestion(url: str) -> str:
    """Return the address that was probably meant, as part of a message; nothing if there is no better one."""
    if re.search("/api(/|$)", url):
        return "" if "://" in url else f"; PREFECT_API_URL is probably http://{url}"
    scheme = "" if "://" in url else "http://"
    return f"; PREFECT_API_URL is probably {scheme}{_UI_PAGE.sub('', url).rstrip('/')}/api"


def drain() -> None:
    """Send the logs and events that Prefect still holds: task runs reach the server as events alone."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=STOP_TIMEOUT_S)
