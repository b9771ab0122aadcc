"""One Prefect server and one serving process for all tests of deployments: each takes seconds to start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.runtime.server import LocalServer
from tests.support.bad_http import BadHttp
from tests.support.s3_servers import free_port
from tests.support.scripts import prefect_home
from tests.support.serving import Served, Webhook, both_are_served, client_of, environment, hide_packages, webhook
from tests.support.waiting import eventually

ZONE = "Europe/Zurich"
FLAGS = ["--dataset", "mnist-sample", "--steps", "60", "--checkpoint-every", "30", "--timezone", ZONE]


@dataclass
class Operation:
    """The installation of an operator: a server, a serving process, and directories.

    Args:
        url: The Prefect API.
        directory: Working directory of the serving process, which contains data, artifacts, and modules of our names.
        variables: Its environment.
        mirror: Mirror of its downloads.
        webhook: Receiver of its notifications.
        served: The process.
    """

    url: str
    directory: Path
    variables: dict[str, str]
    mirror: BadHttp
    webhook: Webhook
    served: Served

    def serve_again(self) -> None:
        """Start the serving process again."""
        self.served = Served(FLAGS, self.variables, self.directory).ready()


@pytest.fixture(scope="package")
def operated(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operation]:
    """A Prefect server, and a process that serves both deployments on it."""
    directory, port = tmp_path_factory.mktemp("operation"), free_port()
    hide_packages(directory)
    with pytest.MonkeyPatch.context() as patch, BadHttp({}) as mirror, webhook() as hook:
        variables = environment(
            prefect_home(directory, migrated_database),
            PREFECT_API_URL=f"http://127.0.0.1:{port}/api",
            MNIST_BP_MIRRORS=mirror.url,
            MNIST_BP_WEBHOOK_URL=hook.url,
        )
        for name in [name for name in os.environ if name not in variables]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        with LocalServer(port, with_ui=True) as server:
            patch.undo()
            variables["PREFECT_API_AUTH_STRING"] = server.password
            served = Served(FLAGS, variables, directory).ready()
            with client_of(server.url, server.password):
                eventually(both_are_served, "they are not served")
            operation = Operation(server.url, directory, variables, mirror, hook, served)
            try:
                yield operation
            finally:
                operation.served.stop()


@pytest.fixture
def operation(operated: Operation) -> Iterator[Operation]:
    """The installation, as the server that this process's Prefect client uses."""
    operated.webhook.texts.clear()
    with client_of(operated.url, operated.variables["PREFECT_API_AUTH_STRING"]):
        yield operated
