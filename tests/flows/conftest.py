"""One Prefect server for all tests of flows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.runtime.server import LocalServer
from mnist_bp.cli.console import Terminal
from tasks import ui as ui

SCRIPT = Path(__file__).parents[2] / "flows" / "train.py"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A real Prefect server with a database of its own, for the session."""
    with prefect_test_harness(server_startup_timeout=100):
        yield


@pytest.fixture
def terminal(prefect_server: None, own_signals: None) -> Iterator[None]:
    """For tests that call the script's main: its terminal is let go afterwards, as its signal handlers are."""
    yield
    ui.show_on(Terminal())


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the script with flags and, by keyword, environment variables; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*flags: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(SCRIPT), *flags]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Prefect database that a server has been started with: a new one costs each start 4 s."""
    home = tmp_path_factory.mktemp("migrated")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_HOME", str(home))
        environment.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with LocalServer():
            pass
    return home / "prefect.db"


@pytest.fixture
def home(migrated_database: Path, tmp_path: Path) -> Path:
    """A directory of Prefect's own, whose settings name no server."""
    directory = tmp_path / "prefect"
    directory.mkdir()
    shutil.copy(migrated_database, directory)
    return directory


@pytest.fixture
def start_alone(start: Start, home: Path) -> Start:
    """Start the script where it has to start a Prefect server of its own."""
    return partial(start, PREFECT_HOME=str(home), PREFECT_API_URL="")
