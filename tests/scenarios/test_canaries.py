"""A run that fails because of a variable which holds a secret shows the secret nowhere.

Each case is a flow run on a real Prefect server. Searched are its output, and every row of the server's database: logs,
states of the flow run and its task runs with their data, artifacts and events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_SERVER_DATABASE_CONNECTION_URL, temporary_settings

from flows.runtime import script
from flows.runtime.server import LocalServer
from flows.train import train
from tests.support.bad_http import BadHttp
from tests.support.prefect_records import logs_of, newest_flow_run, task_runs_of
from tests.support.raw_http import RawHttp, http
from tests.support.scripts import Start
from tests.support.waiting import HANG_S, eventually

pytestmark = pytest.mark.usefixtures("prefect_server", "own_signals")

CANARY: Final = "canary7c1e"
"""The secret; each case adds its number, so that what one case shows is not found by the others."""
BUCKET: Final = "s3://bucket/prefix"
USER_AND_PASSWORD: Final = f"user:{CANARY}"
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Case:
    """A run that fails.

    Args:
        name: Name for the test's id.
        variables: Variables that hold the secret; {web} is replaced by host:port of a server that has no files, and
            {echo} by that of a store that repeats the secret in an error.
        message: Part of the line that the user gets.
        flags: Flags of the run.
    """

    name: str
    variables: dict[str, str]
    message: str
    flags: list[str] = field(default_factory=lambda: ["--dataset", "mnist-sample", "--artifacts", BUCKET])

    @property
    def tasks(self) -> bool:
        """Whether the run reaches a task, the download."""
        return self.flags == MNIST and "MNIST_BP_MIRRORS" not in self.message


MNIST: Final = ["--dataset", "mnist"]
SAMPLE: Final = ["--dataset", "mnist-sample", "--artifacts", "/dev/null/artifacts"]

CASES: Final = [
    Case("key id", {"AWS_ACCESS_KEY_ID": f"{CANARY}\r"}, "AWS_ACCESS_KEY_ID contains a line break"),
    Case("secret key", {"AWS_SECRET_ACCESS_KEY": f"{CANARY}\n"}, "AWS_SECRET_ACCESS_KEY contains a line break"),
    Case("token line break", {"AWS_SESSION_TOKEN": f"{CANARY}\n"}, "AWS_SESSION_TOKEN contains a line break"),
    Case("token beyond ASCII", {"AWS_SESSION_TOKEN": f"{CANARY}\u2019"}, "AWS_SESSION_TOKEN contains a line break"),
    Case("region line break", {"AWS_DEFAULT_REGION": f"{CANARY}\n"}, "AWS_DEFAULT_REGION contains a line break"),
    Case("region with a blank", {"AWS_DEFAULT_REGION": f"{CANARY} x"}, "check AWS_DEFAULT_REGION"),
    Case(
        "endpoint", {"AWS_ENDPOINT_URL_S3": f"http://{USER_AND_PASSWORD}@{{web}}"}, "AWS_ENDPOINT_URL_S3) contains an @"
    ),
    Case(
        "store that repeats the token",
        {"AWS_SESSION_TOKEN": CANARY, "AWS_ENDPOINT_URL_S3": "http://{echo}"},
        "AccessDenied (HTTP 403): the token *** is not known",
    ),
    Case("mirror", {"MNIST_BP_MIRRORS": f"http://{USER_AND_PASSWORD}@{{web}}/"}, "HTTP 404", MNIST),
    Case("mirror slash", {"MNIST_BP_MIRRORS": f"http://user:{CANARY}/x@{{web}}/"}, "MNIST_BP_MIRRORS", MNIST),
    Case(
        "mirror control character",
        {"MNIST_BP_MIRRORS": f"http://user:{CANARY}\x01@{{web}}/"},
        "MNIST_BP_MIRRORS",
        MNIST,
    ),
    Case("mirror line break", {"MNIST_BP_MIRRORS": f"http://user:x\n{CANARY}@{{web}}/"}, "MNIST_BP_MIRRORS", MNIST),
    Case("mirror bucket", {"MNIST_BP_MIRRORS": f"s3://{USER_AND_PASSWORD}@bucket/"}, "MNIST_BP_MIRRORS", MNIST),
    Case(
        "mirror store",
        {"MNIST_BP_MIRRORS": "s3://bucket/mirror", "AWS_SESSION_TOKEN": f"{CANARY}\n"},
        "AWS_SESSION_TOKEN contains a line break",
        MNIST,
    ),
    Case("webhook", {"MNIST_BP_WEBHOOK_URL": f"http://127.0.0.1:9/{CANARY}"}, "is a file", SAMPLE),
    Case("webhook refuses", {"MNIST_BP_WEBHOOK_URL": f"http://user:{CANARY}@{{web}}/{CANARY}"}, "is a file", SAMPLE),
    Case("webhook line break", {"MNIST_BP_WEBHOOK_URL": f"http://127.0.0.1:9/{CANARY}\n"}, "is a file", SAMPLE),
]


@contextmanager
def servers(canary: str) -> Iterator[dict[str, str]]:
    """Run a web server without files, and a store that repeats the secret in an error."""
    text = f"<Error><Code>AccessDenied</Code><Message>the token {canary} is not known</Message></Error>"
    with BadHttp({}) as web, RawHttp(http("403 Forbidden", text.encode())) as echo:
        yield {"{web}": f"127.0.0.1:{web.server_port}", "{echo}": echo.endpoint.removeprefix("http://")}


def database() -> str:
    """Return the path of the session's database."""
    return str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value()).partition(":///")[2]


def rows_with(canary: str, path: str) -> list[str]:
    """Return the rows of a server's database that hold the secret."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [f"{name}: {row}" for name in tables for row in connection.execute(f'SELECT * FROM "{name}"')]
    assert rows
    return [row for row in rows if canary in row]


def recorded_run(tasks: bool) -> FlowRun:
    """Wait until everything about the newest flow run has reached the server: logs and events arrive late."""
    run = newest_flow_run()
    assert run.state_name == "Failed"
    eventually(lambda: "Finished in state Failed" in "\n".join(logs_of(run)), "its logs have not arrived")
    eventually(lambda: {"prefect.flow-run.Failed", "mnist-bp.run.failed"} <= events_of(run), "its events are missing")
    if tasks:
        task_runs_of(run)
    return run


def events_of(run: FlowRun) -> set[str]:
    """Return the names of the events of a flow run."""
    with closing(sqlite3.connect(database())) as connection:
        rows = connection.execute("SELECT event FROM events WHERE resource_id = ?", (f"prefect.flow-run.{run.id}",))
        return {event for (event,) in rows}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_run_that_fails_because_of_a_secret_shows_it_nowhere(
    case: Case, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    canary = f"{CANARY}-{CASES.index(case)}-"
    given = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", **CREDENTIALS, **case.variables}
    with servers(canary) as addresses, temporary_settings({PREFECT_API_AUTH_STRING: f"user:{canary}"}):  # not asked for
        for name, value in given.items():
            for text, replacement in {CANARY: canary, **addresses}.items():
                value = value.replace(text, replacement)
            monkeypatch.setenv(name, value)
        assert script.main(train, case.flags) in (1, 2)
    run = recorded_run(case.tasks)
    out, err = capfd.readouterr()
    assert case.message in err
    assert case.message in str(run.state and run.state.message) or case.message in "\n".join(logs_of(run))
    assert canary not in out + err
    assert not rows_with(canary, database())


def test_a_password_in_the_address_of_prefects_server_is_used_and_shown_nowhere(
    start: Start, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect prints the address of each run; all that it logs goes to the console here."""
    monkeypatch.setenv("PREFECT_HOME", str(home))
    everything = {"PREFECT_LOGGING_LEVEL": "DEBUG", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "DEBUG"}
    with LocalServer(password=USER_AND_PASSWORD) as server:
        url = server.url.replace("://", f"://{USER_AND_PASSWORD}@")
        process = start(*SAMPLE, PREFECT_API_URL=url, **everything)
        out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 1
    assert f"View at http://127.0.0.1:{server.port}/" in out + err
    assert CANARY not in out + err
    assert not rows_with(CANARY, str(home / "prefect.db"))
