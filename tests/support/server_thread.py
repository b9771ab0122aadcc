"""A server in a thread of this process, for tests."""

from __future__ import annotations

import socketserver
import threading
from types import TracebackType
from typing import Any, Self


class ServerThread(socketserver.TCPServer):
    """A mixin: a server on a free port of the loopback interface, which runs inside a `with` block.

    Args:
        handler: Class that answers requests.
    """

    def __init__(self, handler: type[socketserver.StreamRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.closing = threading.Event()  # a handler that waits must stop
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

    @property
    def port(self) -> int:
        """Its port."""
        address: Any = self.server_address
        return int(address[1])
