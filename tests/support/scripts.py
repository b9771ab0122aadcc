"""Fixtures for tests that run flows and the script: a Prefect server for the session, and processes of the script.

The plugin is loaded by `tests/conftest.py`: tests of flows, scenarios and deployments share it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from flows.runtime.server import LocalServer
from tests.support.waiting import HANG_S

SCRIPT = Path(__file__).parents[2] / "flows" / "train.py"

_WITHOUT_HOME = """
import os, pwd, runpy, sys

def unknown(_):
    raise KeyError("uid not found")

pwd.getpwuid = unknown  # as in a container that runs under a number for which it has no user
for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
    os.environ.pop(name, None)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

WITHOUT_HOME = [sys.executable, "-c", _WITHOUT_HOME]
"""Beginning of a command that calls Python with a script, as a user without a home directory."""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def prefect_server(migrated_database: Path) -> Iterator[None]:
    """A real Prefect server with a separate database, for the session."""
    from prefect.settings import (
        PREFECT_LOGGING_TO_API_BATCH_INTERVAL,
        PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness  # 1 s, which sessions without flows save

    # tests wait for logs and events, which would otherwise be written every 2 and 5 s
    often = {PREFECT_LOGGING_TO_API_BATCH_INTERVAL: 0.2, PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL: 0.2}
    directory = tempfile.mkdtemp()  # the harness removes it
    shutil.copy(migrated_database, Path(directory, "prefect-test.db"))  # where the harness would create a new one
    with temporary_settings(often), pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefect.testing.utilities.mkdtemp", lambda: directory)
        with prefect_test_harness(server_startup_timeout=int(HANG_S)):
            patch.undo()
            yield


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the script with flags and, by keyword, environment variables; kill what still runs at the end."""
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
def migrated_database(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A Prefect database that a server has been started with, one for all workers: a new one costs each start 8 s."""
    base = tmp_path_factory.getbasetemp()
    home = (base if worker_id == "master" else base.parent) / "migrated"
    with FileLock(f"{home}.lock"), pytest.MonkeyPatch.context() as environment:
        if not home.exists():
            new = home.with_name("migrated-new")  # renamed once it is whole: a start may fail
            environment.setenv("PREFECT_HOME", str(new))
            with LocalServer():
                pass
            new.rename(home)
    return home / "prefect.db"


def prefect_home(directory: Path, migrated_database: Path) -> Path:
    """Create a home directory of Prefect whose settings name no server."""
    home = directory / "prefect"
    home.mkdir(parents=True)
    shutil.copy(migrated_database, home)
    return home


@pytest.fixture
def home(migrated_database: Path, tmp_path: Path) -> Path:
    """A home directory of Prefect whose settings name no server."""
    return prefect_home(tmp_path, migrated_database)


@pytest.fixture
def start_alone(start: Start, home: Path) -> Start:
    """Start the script where no server is named, so that it starts a separate one."""
    return partial(start, PREFECT_HOME=str(home), PREFECT_API_URL="")
