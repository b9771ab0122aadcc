"""A whole Prefect server beside the process that serves the flows, and never left behind.

The child serves on a socket that the parent has opened, so that a taken port is found out at once. It holds the reading
end of a pipe whose writing end the parent holds: when the parent is gone, however it went, the pipe ends and so does
the child. It is in a process group of its own, so that Ctrl-C leaves it there to record what became of the runs.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Final, Self

from mnist_bp.errors import MnistBpError

START_LIMIT: Final = 120.0
"""Seconds for a server to answer; a new database is migrated within 4 to 7."""

STOP_LIMIT: Final = 5.0
"""Seconds for a server to write down what it was told."""


class ServerError(MnistBpError):
    """A Prefect server cannot be started, or be reached."""


class LocalServer:
    """A Prefect server with its UI, for a `with` block; it answers once the block is entered.

    Args:
        port: Where it listens on the loopback interface.

    Raises:
        ServerError: The port is taken; or, on entering, the server ended or does not answer.
    """

    def __init__(self, port: int) -> None:
        self.url: Final = f"http://127.0.0.1:{port}/api"
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind(("127.0.0.1", port))
            except OSError as exc:
                raise ServerError(f"--port {port} cannot be had ({exc.strerror}): choose another") from exc
            listening.listen(128)
            self._process = subprocess.Popen(  # noqa: S603 - this very module
                [sys.executable, "-m", "deployments.local_server", str(listening.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                # the UI asks where the settings say that the API is
                env={**os.environ, "PREFECT_API_URL": self.url},
                pass_fds=[listening.fileno()],
                process_group=0,
            )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + START_LIMIT
        try:
            while not answers(self.url):
                if self._process.poll() is not None:
                    raise ServerError(
                        f"Prefect's server ended when it was started, with exit code {self._process.returncode}"
                    )
                if time.monotonic() > deadline:
                    raise ServerError(f"Prefect's server does not answer at {self.url} within {START_LIMIT:.0f} s")
                time.sleep(0.1)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server, once it has written down what it was told."""
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


def answers(url: str) -> bool:
    """Whether a Prefect server on this machine is ready; `url` is its API's, with a port."""
    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# ---------------------------------------------------------------------------------------------------------------------
# the server's process


def _end_with_parent() -> None:
    """Wait for the pipe to end, then wind up; where that takes too long, end."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_LIMIT)
    os._exit(1)


def _serve(listening: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(create_app(final=True), log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=listening)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
