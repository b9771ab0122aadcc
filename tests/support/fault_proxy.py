"""An HTTP proxy on this machine that injects the faults of networks into a real server's traffic.

with FaultProxy(server.endpoint) as proxy:
    proxy.faults = iter([SLOW_DOWN, LOST_REPLY])  # the next two requests; no faults afterwards
    proxy.faults = at_random(0.2, seed=1)         # one request in five, without end
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)

Requests are forwarded unchanged, including the Host header: it is part of the signature.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from tests.support.server_thread import ServerThread
from tests.support.waiting import HANG_S


@dataclass(frozen=True)
class Fault:
    """A fault of one request.

    Args:
        name: Name for test ids.
        forwarded: Whether the request reaches the server.
        status: HTTP status of a reply in place of the server's.
        code: S3's error code in that reply.
        cut: Share of the reply's body that is sent before the connection is reset; None for no reply at all.
        silent: Whether the connection then stays open without further bytes.
        polite: Whether the connection is closed as after a complete reply, instead of reset.
    """

    name: str
    forwarded: bool = True
    status: int | None = None
    code: str = ""
    cut: float | None = None
    silent: bool = False
    polite: bool = False


SLOW_DOWN: Final = Fault("503 SlowDown", forwarded=False, status=503, code="SlowDown")
NOT_IMPLEMENTED: Final = Fault("501 NotImplemented", forwarded=False, status=501, code="NotImplemented")
RESET: Final = Fault("reset before the server saw it", forwarded=False)
LOST_REPLY: Final = Fault("reply lost after the server processed the request")
TRUNCATED: Final = Fault("reset in the middle of the body", cut=0.5)
CUT_SHORT: Final = Fault("closed in the middle of the body", cut=0.5, polite=True)
STALL: Final = Fault("silence in the middle of the body", cut=0.5, silent=True)

QUICK_FAULTS: Final = (SLOW_DOWN, RESET, LOST_REPLY, TRUNCATED)
"""Faults that are noticed without a time-out."""


def at_random(rate: float, seed: int, faults: tuple[Fault, ...] = QUICK_FAULTS) -> Iterator[Fault | None]:
    """Let a random share of the requests fail, each by a random fault."""
    draws = random.Random(seed)
    while True:
        yield draws.choice(faults) if draws.random() < rate else None


class FaultProxy(ServerThread, ThreadingHTTPServer):
    """The proxy; runs inside a `with` block.

    Args:
        upstream: Address of the server, such as http://127.0.0.1:43210.
    """

    daemon_threads = True  # a client's idle connection stays open, and has a thread
    request_queue_size = 64

    def __init__(self, upstream: str) -> None:
        super().__init__(_Handler)
        self.upstream = upstream.removeprefix("http://")
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.faults: Iterator[Fault | None] = iter(())
        self.requests: list[tuple[str, str, Fault | None]] = []  # method, path, fault
        self._drawing = threading.Lock()

    def happened(self) -> list[Fault]:
        """List the faults so far."""
        return [fault for _, _, fault in self.requests if fault is not None]

    def draw(self, method: str, path: str) -> Fault | None:
        """Return the fault of a request, if any."""
        with self._drawing:
            fault = next(self.faults, None)
            self.requests.append((method, path, fault))
            return fault


class _Handler(BaseHTTPRequestHandler):
    server: FaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # either side may hang up at any time
            super().handle()

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.draw(self.command, self.path)
        if fault is None:
            self._answer(*self._forward(body))
            return
        reply = self._forward(body) if fault.forwarded else None
        if fault.status is not None:
            body = f"<Error><Code>{fault.code}</Code><Message>An injected fault.</Message></Error>".encode()
            self._answer(fault.status, [("Content-Type", "application/xml")], body)
            return
        if reply is not None and fault.cut is not None:
            self._answer(*reply, cut=fault.cut)
        if fault.silent:
            self.server.closing.wait()
        if fault.polite:
            self.close_connection = True
        else:
            self._reset()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_any  # noqa: N815 (the names are http.server's)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=HANG_S)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            reply = connection.getresponse()
            content = reply.read()
            dropped = ("transfer-encoding", "content-length", "connection")
            headers = [(name, value) for name, value in reply.getheaders() if name.lower() not in dropped]
            return reply.status, headers, content
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, cut: float = 1) -> None:
        self.send_response_only(status)
        for name, value in [*headers, ("Content-Length", str(len(content)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: int(len(content) * cut)])
        self.wfile.flush()

    def _reset(self) -> None:
        """Reset the connection: bytes in transit are lost, too."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        """Log nothing: tests read `requests`."""
