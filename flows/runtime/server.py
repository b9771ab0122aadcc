"""A separate Prefect server that lives no longer than this process.

    server = LocalServer()        # returns at once; slow imports can follow
    with server:                  # waits until the server is healthy; stops it at the end
        ...

Prefect's own temporary server starts only with the first flow, after the client has imported the whole server too.

The child serves on a socket that the parent has opened, so the port is taken before the child exists, and a request
waits in the socket's queue until the child accepts it. The child watches the parent and exits when it has ended. It is
in a separate process group: Ctrl-C does not reach it, so that it can still record how the runs ended.

A client of a Prefect server can run commands as the server's user, so the child asks for a password, and answers its
own host and origin alone.
"""

from __future__ import annotations

import gc
import http.client
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, Self

from flows.runtime.access import OwnSiteOnly, hosts_of, origins_of
from flows.runtime.home import prefect_home
from flows.runtime.password import CLIENT_VARIABLE, SERVER_VARIABLE, new_password
from flows.runtime.watch import when_process_dies
from mnist_bp.cli.process import reduce_garbage_collection
from mnist_bp.errors import MnistBpError

START_TIMEOUT_S: Final = 120.0
"""Seconds until the server must be healthy; a new database takes some 6."""

STOP_TIMEOUT_S: Final = 5.0
"""Seconds for the server to write what it has received."""

LOCK_TIMEOUT_S: Final = 30.0
"""Seconds for which another process may lock Prefect's SQLite database; the server retries in the meantime."""

POLL_INTERVAL_S: Final = 0.5

_EXCEPTION_LINE: Final = re.compile(r"[\w.]+(Error|Exception|Exit): ")
"""Last line of a traceback."""


class ServerError(MnistBpError):
    """A Prefect server cannot be started or reached."""


class LocalServer:
    """A Prefect server as a child process, for a `with` block that begins once the server is healthy.

    Args:
        port: Port on the loopback interface; 0 for any free port.
        with_ui: With the UI and all services, and stderr passed through. Otherwise with what a single run needs, as in
            Prefect's temporary server, and stderr kept for the error message.
        password: user:password for each request; generated if None.

    Raises:
        ServerError: The port is taken; on entering, the server ended or does not reply.
    """

    def __init__(self, port: int = 0, *, with_ui: bool = False, password: str | None = None) -> None:
        self._with_ui = with_ui
        self.password: Final = password or new_password()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
        except OSError as exc:
            self._socket.close()
            raise ServerError(f"--port {port} is not available ({exc.strerror}): choose another port") from exc
        self._socket.listen(128)
        self.port: Final[int] = self._socket.getsockname()[1]
        self.url: Final = f"http://127.0.0.1:{self.port}/api"
        self._was_locked = database_is_locked()  # from now on the server may have locked it
        self._stderr = None if with_ui else tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - stop()
        self._process = self._spawn()
        self._stopped = False

    def __enter__(self) -> Self:
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the child process runs."""
        return self._process.poll() is None

    def wait(self, timeout: float = START_TIMEOUT_S, lock_timeout: float = LOCK_TIMEOUT_S) -> None:
        """Wait until the server is healthy.

        Args:
            timeout: Seconds in all.
            lock_timeout: Seconds for which a database that was locked before the server started may stay so.

        Raises:
            ServerError: The server ended, its database stays locked, or it does not reply.
        """
        started = time.monotonic()
        while self.alive:
            if is_healthy(self.url, timeout=POLL_INTERVAL_S):
                self._socket.close()  # otherwise requests would wait in the queue of a child that has ended
                return
            now = time.monotonic()
            self._was_locked = self._was_locked and database_is_locked()
            if self._was_locked and now > started + lock_timeout:
                raise ServerError(
                    f"Prefect's database {database()} has been locked by another process for {lock_timeout:.0f} s: end "
                    "that process, or set PREFECT_HOME to another directory"
                )
            if now > started + timeout:
                raise ServerError(f"Prefect's server at {self.url} did not reply within {timeout:.0f} s")
        raise ServerError(
            f"Prefect's server exited during startup: {self._startup_error()}; its database is {database()}: "
            "if it is damaged or not writable, set PREFECT_HOME to another directory"
        )

    def when_it_dies(self, act: Callable[[], None]) -> None:
        """Call a function in a thread when the server has ended without `stop`."""

        def wait() -> None:
            self._process.wait()
            if not self._stopped:
                act()

        threading.Thread(target=wait, daemon=True).start()

    def stop(self) -> None:
        """Stop the server after it has written what it received. May be called again."""
        self._stopped = True
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._stderr is not None:
            self._stderr.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        arguments = [str(self._socket.fileno()), str(os.getpid()), *["with-ui"] * self._with_ui]
        return subprocess.Popen(  # noqa: S603 - this module
            # -P: modules in the working directory are not imported
            [sys.executable, "-P", "-m", "flows.runtime.server", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            env={
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # no request leaves this machine
                **os.environ,
                # the UI sends its requests to the address in the settings
                "PREFECT_SERVER_API_PORT": str(self.port),
                "PREFECT_API_URL": self.url,
                # a script's server would raise the alarms of the one whose database it shares
                **({} if self._with_ui else {"PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false"}),
                # not the user's settings for another server
                "PREFECT_SERVER_API_BASE_PATH": "/api",
                "PREFECT_UI_API_URL": self.url,
                "PREFECT_SERVER_UI_API_URL": self.url,
                "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins_of(hosts_of(self.port))),
                # in the environment alone: other users can read command lines
                SERVER_VARIABLE: self.password,
                CLIENT_VARIABLE: self.password,
            },
            pass_fds=[self._socket.fileno()],
            process_group=0,
        )

    def _startup_error(self) -> str:
        exit_code = f"exit code {self._process.returncode}"
        if self._stderr is None:
            return exit_code
        self._stderr.seek(0)
        errors = [line.strip() for line in self._stderr if _EXCEPTION_LINE.match(line)]
        return errors[-1] if errors else exit_code


def is_healthy(url: str, timeout: float = 10) -> bool:
    """Return whether a Prefect server on this machine is ready.

    Args:
        url: Address of its API, with a port.
        timeout: Seconds.
    """
    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def database() -> Path:
    """Return the path of Prefect's SQLite file, unless its settings name another database."""
    return prefect_home() / "prefect.db"


def database_is_locked() -> bool:
    """Return whether a process is writing to Prefect's SQLite file at this moment."""
    if not database().exists():
        return False
    try:
        with closing(sqlite3.connect(database(), timeout=0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.Error as exc:
        return "locked" in str(exc)
    return False


# ---------------------------------------------------------------------------------------------------------------------
# the child process


def _stop() -> None:
    """Shut down; if that takes too long, exit."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT_S)
    os._exit(1)


def _serve(listening: int, parent: int, with_ui: bool) -> None:
    when_process_dies(parent, _stop)
    reduce_garbage_collection()
    import uvicorn
    from prefect.server.api.server import create_app

    gc.freeze()  # create_app() collects garbage, among the million objects of these imports
    sockets = [socket.socket(fileno=listening)]
    app = OwnSiteOnly(create_app(ephemeral=not with_ui, final=True), hosts_of(sockets[0].getsockname()[1]))
    uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on")).run(sockets=sockets)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]), "with-ui" in sys.argv[3:])
