"""An HTTP server on this machine that serves a few files, with injected faults.

    with BadHttp({"a.gz": content}) as server:
        server.faults["a.gz"] = [drop(after=100), status(503)]  # the first two replies; no faults afterwards
        fetch(server.url + "a.gz")
        assert server.requests == [Request("/a.gz", None)]

Only the last part of a path counts, so `server.url + "one/"` and `server.url + "two/"` are two mirrors of one server.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from tests.support.server_thread import ServerThread

PIECE: Final = 1_000
"""Bytes written to the connection at once."""


@dataclass(frozen=True)
class Request:
    """A request of a client.

    Args:
        path: Path, with its leading slash.
        range: The Range header, or None.
    """

    path: str
    range: str | None


@dataclass(frozen=True)
class Fault:
    """How one reply differs from a correct one. The functions below return the useful faults.

    Args:
        status: Status in place of the correct one.
        headers: Headers in place of the correct ones; None omits one.
        body: Body in place of the file or its requested range.
        stop_after: Bytes of the body to send; None for all.
        hold: Whether the connection then stays open without further bytes until the server closes.
        pause: Seconds before each write.
        endless: Whether the body is repeated without end.
        ignore_range: Whether a Range header is ignored.
    """

    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    stop_after: int | None = None
    hold: bool = False
    pause: float = 0
    endless: bool = False
    ignore_range: bool = False


PROPER: Final = Fault()
IGNORE_RANGE: Final = Fault(ignore_range=True)
ENDLESS: Final = Fault(headers={"Content-Length": None}, endless=True)
HTML: Final = Fault(headers={"Content-Type": "text/html"}, body=b"<html>Please log in to the hotel's network</html>")


def drop(after: int) -> Fault:
    """Close the connection in the middle of the body."""
    return Fault(stop_after=after)


def stall(after: int) -> Fault:
    """Stop in the middle of the body without closing the connection."""
    return Fault(stop_after=after, hold=True)


def truncate(to: int) -> Fault:
    """Send less, with a matching Content-Length: the client sees a complete reply."""
    return Fault(headers={"Content-Length": str(to)}, stop_after=to)


def overclaim(length: int) -> Fault:
    """Send the whole body with a larger Content-Length."""
    return Fault(headers={"Content-Length": str(length)})


def drip(pause: float) -> Fault:
    """Send slowly, with `pause` seconds before each write."""
    return Fault(pause=pause)


def status(code: int) -> Fault:
    """Answer with a status and no body."""
    return Fault(status=code, body=b"")


def redirect(to: str) -> Fault:
    """Redirect the client to another address."""
    return Fault(status=302, headers={"Location": to}, body=b"")


def content_range(text: str) -> Fault:
    """Send a wrong Content-Range."""
    return Fault(headers={"Content-Range": text})


class BadHttp(ServerThread, ThreadingHTTPServer):
    """The server; runs inside a `with` block.

    Args:
        files: Contents by file name.
    """

    daemon_threads = False  # closing waits until every reply has ended

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(_Handler)
        self.url = f"http://127.0.0.1:{self.port}/"
        self.files = files
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[Request] = []
        self.sent: Counter[str] = Counter()  # bytes of bodies, by file name

    def take_fault(self, name: str) -> Fault:
        """Return the next fault of a file."""
        faults = self.faults.get(name)
        return faults.pop(0) if faults else PROPER


class _Handler(BaseHTTPRequestHandler):
    server: BadHttp

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client may hang up at any time
            super().handle()

    def do_GET(self) -> None:
        name, asked = self.path.rpartition("/")[2], self.headers["Range"]
        self.server.requests.append(Request(self.path, asked))
        fault = self.server.take_fault(name)
        code, headers, body = _proper_reply(self.server.files.get(name), None if fault.ignore_range else asked)
        body = body if fault.body is None else fault.body
        self.send_response(fault.status or code)
        for header, value in {**headers, "Content-Length": str(len(body)), **fault.headers}.items():
            if value is not None:
                self.send_header(header, value)
        self.end_headers()
        self._send(name, body[: fault.stop_after], fault)

    def _send(self, name: str, body: bytes, fault: Fault) -> None:
        starts = range(0, len(body), PIECE)
        for start in itertools.cycle(starts) if fault.endless else starts:
            if self.server.closing.wait(fault.pause):
                return
            piece = body[start : start + PIECE]
            self.wfile.write(piece)
            self.server.sent[name] += len(piece)
        if fault.hold:
            self.server.closing.wait()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        """Log nothing: tests read `requests`."""


def _proper_reply(content: bytes | None, asked: str | None) -> tuple[int, dict[str, str | None], bytes]:
    """Return status, headers and body; the only supported range is `bytes=N-`."""
    if content is None:
        return 404, {}, b""
    wanted = re.fullmatch(r"bytes=(\d+)-", asked or "")
    if wanted is None:
        return 200, {"Content-Type": "application/octet-stream"}, content
    start, size = int(wanted[1]), len(content)
    if start >= size:
        return 416, {"Content-Range": f"bytes */{size}"}, b""
    return 206, {"Content-Range": f"bytes {start}-{size - 1}/{size}"}, content[start:]
