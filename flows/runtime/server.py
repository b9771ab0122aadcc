"""A Prefect server of one's own: started beside everything else, waited for late, and never left behind.

    server = LocalServer()        # returns at once; import what is slow now
    with server:                  # waits until it answers; ends it
        ...

Prefect's own temporary server starts only when a flow does, after its client has imported the whole server as well.

The child serves on a socket that the parent has opened: its port is taken before the child exists, and a request waits
in the socket's queue until it is answered. It holds the reading end of a pipe whose writing end the parent holds: when
the parent is gone, however it went, the pipe ends and so does the child, on any system; PR_SET_PDEATHSIG would be for
Linux alone, and fire when the thread that started the child ends. It is in a process group of its own, so that Ctrl-C
leaves it there to record what became of the runs.
"""

from __future__ import annotations

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

from mnist_bp.cli.process import collect_garbage_seldom
from mnist_bp.errors import MnistBpError

START_LIMIT: Final = 120.0
"""Seconds for a server to answer; with a new database to migrate, some 6."""

STOP_LIMIT: Final = 5.0
"""Seconds for a server to write down what it was told."""

LOCK_LIMIT: Final = 30.0
"""Seconds to wait for another process to let go of Prefect's SQLite database; the server tries again meanwhile."""

_ERROR: Final = re.compile(r"[\w.]+(Error|Exception|Exit): ")
"""The last line of a traceback."""

_LOOK: Final = 0.5
"""Seconds that a request waits in the queue between two looks at whether the child is alive."""


class ServerError(MnistBpError):
    """A Prefect server cannot be started, or be reached."""


class LocalServer:
    """A Prefect server that lives no longer than this process; for a `with` block, which begins once it answers.

    Args:
        port: Where it listens on the loopback interface; 0 for any that is free.
        with_ui: With its UI and all services, and its complaints on stderr; else with what a single run needs, as
            Prefect's temporary server has it, and its complaints in the error if it does not start.

    Raises:
        ServerError: The port is taken; or, on entering, the server ended or does not answer.
    """

    def __init__(self, port: int = 0, *, with_ui: bool = False) -> None:
        self._with_ui = with_ui
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listening.bind(("127.0.0.1", port))
        except OSError as exc:
            self._listening.close()
            raise ServerError(f"--port {port} cannot be had ({exc.strerror}): choose another") from exc
        self._listening.listen(128)
        self.port: Final[int] = self._listening.getsockname()[1]
        self.url: Final = f"http://127.0.0.1:{self.port}/api"
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
        """Whether its process is there."""
        return self._process.poll() is None

    def wait(self, limit: float = START_LIMIT, lock_limit: float = LOCK_LIMIT) -> None:
        """Wait until the server answers.

        Args:
            limit: Seconds in all.
            lock_limit: Seconds for which its database may be locked.

        Raises:
            ServerError: It ended, its database stays locked, or it does not answer.
        """
        begun = unlocked = time.monotonic()
        while self.alive:
            if is_healthy(self.url, limit=_LOOK):
                self._listening.close()  # or requests would wait in the queue of a child that is gone
                return
            now = time.monotonic()
            if not database_is_locked():
                unlocked = now
            if now > unlocked + lock_limit:
                raise ServerError(
                    f"Prefect's database {database()} is locked by another process, for {lock_limit:.0f} s now: end "
                    "that process, or set PREFECT_HOME to another directory"
                )
            if now > begun + limit:
                raise ServerError(f"Prefect's server does not answer at {self.url} within {limit:.0f} s")
        raise ServerError(
            f"Prefect's server ended when it was started: {self._startup_error()}; its database is {database()} "
            "(PREFECT_HOME)"
        )

    def when_it_dies(self, act: Callable[[], None]) -> None:
        """Call something, in a thread, when the server has ended without being stopped."""

        def wait() -> None:
            self._process.wait()
            if not self._stopped:
                act()

        threading.Thread(target=wait, daemon=True).start()

    def stop(self) -> None:
        """End the server, once it has written down what it was told. May be called again."""
        self._stopped = True
        self._listening.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._stderr is not None:
            self._stderr.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - this very module
            # -P: not what happens to lie in the working directory
            [
                sys.executable,
                "-P",
                "-m",
                "flows.runtime.server",
                str(self._listening.fileno()),
                *["with-ui"] * self._with_ui,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            env={
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # nothing calls out
                **os.environ,
                # the UI asks where the settings say that the API is
                "PREFECT_SERVER_API_PORT": str(self.port),
                "PREFECT_API_URL": self.url,
            },
            pass_fds=[self._listening.fileno()],
            process_group=0,
        )

    def _startup_error(self) -> str:
        if self._stderr is None:
            return f"exit code {self._process.returncode}"
        self._stderr.seek(0)
        errors = [line.strip() for line in self._stderr if _ERROR.match(line)]
        return errors[-1] if errors else f"exit code {self._process.returncode}"


def is_healthy(url: str, limit: float = 10) -> bool:
    """Whether a Prefect server on this machine is ready.

    Args:
        url: Its API's, with a port.
        limit: Seconds.
    """
    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=limit)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def database() -> Path:
    """Name the SQLite file in which Prefect keeps its history, unless its settings name another place."""
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser() / "prefect.db"


def database_is_locked() -> bool:
    """Whether some process is writing to Prefect's SQLite file at this moment."""
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
# the server's process


def _end_with_parent() -> None:
    """Wait for the pipe to end, then wind up; where that takes too long, end."""
    os.read(sys.stdin.fileno(), 1)  # sys.stdin itself would be locked by this thread when the interpreter ends
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_LIMIT)
    os._exit(1)


def _serve(listening: int, with_ui: bool) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    collect_garbage_seldom()
    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(create_app(ephemeral=not with_ui, final=True), log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=listening)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]), "with-ui" in sys.argv[2:])
