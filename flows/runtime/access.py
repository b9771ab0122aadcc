"""Prefect's server as an application that answers requests to its own hosts and from its own pages alone.

The password keeps out other users and other pages. This keeps out pages that reach the server under another host name
(DNS rebinding), for which the browser takes the server's replies to be theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class OwnSiteOnly:
    """Refuses requests to other hosts, and requests of pages from other origins, with HTTP 403.

    Args:
        app: The application to protect.
        hosts: Each host:port of the server, as clients write it.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app, self._hosts = app, frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origins_of(self._hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or one connection of a websocket."""
        if scope["type"] in ("http", "websocket") and not self._is_own(scope["headers"]):
            from starlette.responses import PlainTextResponse

            refusal = PlainTextResponse("This server answers its own host and origin alone.\n", status_code=403)
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_own(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        sent = [(name, value.decode("latin-1").lower()) for name, value in headers]
        hosts = [value for name, value in sent if name == b"host"]
        origins = {value for name, value in sent if name == b"origin"}
        return len(hosts) == 1 and hosts[0] in self._hosts and origins <= self._origins


def hosts_of(port: int) -> tuple[str, ...]:
    """Return each host:port of a server on this machine's loopback interface."""
    names = ("127.0.0.1", "localhost")
    return tuple(f"{name}:{port}" for name in names) + (names if port == 80 else ())  # browsers omit port 80


def origins_of(hosts: Iterable[str]) -> list[str]:
    """Return the origins of the pages that are served under the given names."""
    return [f"http://{host}" for host in hosts]
