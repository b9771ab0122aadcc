"""A serving process, queries to its Prefect server, and a webhook receiver, for tests of deployments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psutil
from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.runtime.choose_server import drain
from tests.support.waiting import HANG_S, eventually

REPOSITORY: Final = Path(__file__).parents[2]
SCRIPT: Final = REPOSITORY / "deployments" / "serve.py"
ENDLESS: Final = {"dataset": "mnist-sample", "steps": 10**9, "checkpoint_every": 10**5, "engine": "reference"}
"""As `tests.conftest.ENDLESS`, as a parameter, and by an engine that takes longer for its first checkpoint."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment that sets only the given variables, with a separate PREFECT_HOME."""
    ours = ("AWS_", "MNIST_BP_", "PREFECT_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    quick = {
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    }
    return {**inherited, **quick, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **more}


class Served:
    """A serving process.

    Args:
        flags: Flags of `deployments/serve.py`.
        variables: Its environment.
        directory: Its working directory.
        parent: Beginning of the command, if another process starts it.
    """

    def __init__(
        self, flags: list[str], variables: Mapping[str, str], directory: Path, parent: Sequence[str] = ()
    ) -> None:
        self.log, self.home = directory / "serve.log", Path(variables["PREFECT_HOME"])
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*parent, sys.executable, SCRIPT, *flags, "--json"],
                env=variables,
                cwd=directory,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.about: dict[str, Any] = {}

    def ready(self) -> Served:
        """Wait until it serves."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise AssertionError(self.log.read_text())
        self.about = json.loads(line)
        return self

    def handling_signals(self) -> Served:
        """Wait until it handles SIGTERM, which Python does not; before, Python's start may lose a SIGINT."""
        status = Path(f"/proc/{self.process.pid}/status")

        def look() -> bool:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            return bool(int(fields["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1)

        eventually(look, "it handles no signal")
        return self

    @property
    def descendants(self) -> list[psutil.Process]:
        """Its child processes, and theirs."""
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    @property
    def password(self) -> str:
        """The password of the server that it started."""
        return (self.home / "mnist-bp-password").read_text().strip()

    def kill(self, *, with_runs: bool) -> None:
        """Kill it."""
        victims = self.descendants if with_runs else []
        self.process.kill()
        for victim in victims:
            victim.kill()
        self.close()

    def stop(self) -> int:
        """Terminate it, and return its exit code."""
        self.process.terminate()
        code = self.process.wait(HANG_S)
        self.close()
        return code

    def close(self) -> None:
        """Reap it."""
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def client_of(url: str, password: str) -> Iterator[None]:
    """Let this process's Prefect client use a server that asks for a password.

    At the end, its events are sent: otherwise those of later tests would go to this server, which has ended by then.
    """
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: password}):
        try:
            yield
        finally:
            drain()


def both_are_served() -> bool:
    """Return whether the server lists both deployments, which follows a moment after they are served."""
    with get_client(sync_client=True) as client:
        return {found.name for found in client.read_deployments()} >= {"train", "nightly"}


def hide_packages(directory: Path) -> None:
    """Put modules with the names of our packages into a working directory, as an operator's own project has them."""
    for name in ("tasks.py", "flows/__init__.py", "tests/__init__.py"):
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("raise ImportError('not the installed package')\n")


def start_run(
    deployment: str, parameters: Mapping[str, Any] | None = None, job_variables: dict[str, Any] | None = None
) -> UUID:
    """Start a run of a deployment."""
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(f"mnist-bp/{deployment}")
        return client.create_flow_run_from_deployment(
            found.id, parameters=dict(parameters or {}), job_variables=job_variables
        ).id


def read_run(run_id: UUID) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run_id)


def wait_for(run_id: UUID, state: str, timeout: float = HANG_S) -> FlowRun:
    """Wait until a run is in a state; fail if it ends in another."""

    def look() -> FlowRun | None:
        run = read_run(run_id)
        if run.state_name == state:
            return run
        assert run.state is None or not run.state.is_final(), (run.state_name, run.state and run.state.message)
        return None

    return eventually(look, f"{run_id} is not {state}", timeout)


class _Hook(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        self.server.texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        """Say nothing: tests read `texts`."""


class Webhook(ThreadingHTTPServer):
    """A server that receives Slack messages."""

    daemon_threads = False
    request_queue_size = 100  # several alarms at once

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.texts: list[str] = []
        self.status = 200
        self.url = f"http://127.0.0.1:{self.server_port}/services/secret"


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Run a webhook."""
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
