"""A proxy of HTTP on this machine that does to a real server's traffic what networks do.

with FaultProxy(server.endpoint) as proxy:
    proxy.faults = iter([SLOW_DOWN, LOST_REPLY])  # the next two requests; then it behaves
    proxy.faults = at_random(0.2, seed=1)         # one request in five, for good
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)

Requests are forwarded as they came, their Host header included: it is part of what is signed.
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
from types import TracebackType
from typing import Final, Self

_SLOW_DOWN: Final = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    Args:
        name: For a person.
        forwarded: Whether it reaches the server.
        status: Answered instead of the server's reply.
        cut: Share of the reply's body that is let through before the connection is reset; None for no reply at all.
        silent: Whether the connection stays open then, and nothing more comes.
        polite: Whether it is closed as if all had been said, instead of reset.
    """

    name: str
    forwarded: bool = True
    status: int | None = None
    cut: float | None = None
    silent: bool = False
    polite: bool = False


SLOW_DOWN: Final = Fault("503 SlowDown", forwarded=False, status=503)
RESET: Final = Fault("reset before the server saw it", forwarded=False)
LOST_REPLY: Final = Fault("reply lost after the server did it")
TRUNCATED: Final = Fault("reset in the middle of the body", cut=0.5)
CUT_SHORT: Final = Fault("closed in the middle of the body", cut=0.5, polite=True)
STALL: Final = Fault("silence in the middle of the body", cut=0.5, silent=True)

QUICK_FAULTS: Final = (SLOW_DOWN, RESET, LOST_REPLY, TRUNCATED)
"""Those that take no time-out to be noticed."""


def at_random(rate: float, seed: int, faults: tuple[Fault, ...] = QUICK_FAULTS) -> Iterator[Fault | None]:
    """Let one request in 1/`rate` fail, in one way or another."""
    draws = random.Random(seed)
    while True:
        yield draws.choice(faults) if draws.random() < rate else None


class FaultProxy(ThreadingHTTPServer):
    """The proxy; it runs inside a `with` block.

    Args:
        upstream: Address of the server, such as http://127.0.0.1:43210.
    """

    daemon_threads = True  # a client's idle connection is kept open, and has a thread
    request_queue_size = 64

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream.removeprefix("http://")
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.faults: Iterator[Fault | None] = iter(())
        self.only = ""  # the method of requests that can fail; empty for all
        self.requests: list[tuple[str, str, Fault | None]] = []  # method, path, what happened to it
        self.closing = threading.Event()
        self._drawing = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def happened(self) -> list[Fault]:
        """List the faults so far."""
        return [fault for _, _, fault in self.requests if fault is not None]

    def draw(self, method: str, path: str) -> Fault | None:
        """Decide what happens to a request."""
        with self._drawing:
            fault = next(self.faults, None) if self.only in ("", method) else None
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
            self._answer(fault.status, [("Content-Type", "application/xml")], _SLOW_DOWN)
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
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
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
        """Hang up the rude way: what is on its way is lost, too."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        """Say nothing: tests read `requests`."""
