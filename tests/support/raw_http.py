"""A server on this machine that sends bytes of the test's choice: replies that no HTTP library would make.

with RawHttp(drip(b"HTTP/1.1 200 OK\r\nX-Long: ", b"a")) as server:
    fetch(server.url)  # one byte of a header after the other, without end
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable
from typing import Final

from tests.support.server_thread import ServerThread

PAUSE_S: Final = 0.05
"""Seconds between two pieces: more often than any time-out of a client for one read."""

Send = Callable[[bytes], object]
Reply = Callable[[Send, threading.Event], object]
"""Sends a reply; ends once the event is set."""


def whole(content: bytes) -> Reply:
    """Send a reply at once."""
    return lambda send, closing: send(content)


def drip(start: bytes, piece: bytes) -> Reply:
    """Send the start of a reply, and then a piece again and again, without end."""

    def reply(send: Send, closing: threading.Event) -> None:
        send(start)
        while not closing.wait(PAUSE_S):
            send(piece)

    return reply


def http(status: str, body: bytes, **headers: str) -> Reply:
    """Send a proper reply."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return whole("\r\n".join([*lines, "", ""]).encode() + body)


class RawHttp(ServerThread, socketserver.ThreadingTCPServer):
    """The server; runs inside a `with` block. It reads the head of a request, and the body that the head states.

    Args:
        reply: What it sends in reply to each request.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, reply: Reply) -> None:
        super().__init__(_Handler)
        self.reply = reply
        self.requests: list[str] = []
        self.headers: list[list[str]] = []  # in lower case, of each request
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that hang up."""


class _Handler(socketserver.StreamRequestHandler):
    server: RawHttp

    def handle(self) -> None:
        while request := self.rfile.readline().decode():
            size, headers = 0, list[str]()
            while (line := self.rfile.readline().decode().strip().lower()) != "":
                if line.startswith("content-length:"):
                    size = int(line.partition(":")[2])
                headers.append(line)
            self.server.requests.append(request.strip())
            self.server.headers.append(headers)
            self.rfile.read(size)
            self.server.reply(self.wfile.write, self.server.closing)
