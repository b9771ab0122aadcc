"""The serving process: what it refuses, and that it leaves nothing behind however it ends."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.runtime.password import FILE
from mnist_bp.cli.process import INTERRUPTED
from tests.support.prefect_records import artifact_of, logs_of, newest_flow_run
from tests.support.raw_http import RawHttp, http
from tests.support.s3_servers import free_port
from tests.support.scripts import WITHOUT_HOME, prefect_home
from tests.support.serving import (
    ENDLESS,
    REPOSITORY,
    SCRIPT,
    Served,
    both_are_served,
    client_of,
    environment,
    read_run,
    start_run,
    wait_for,
)
from tests.support.waiting import HANG_S, assert_ended, eventually, under_load

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("flags", "code", "parts"),
    [
        (["--cron", "0 2 * *"], 2, ["--cron '0 2 * *'", "five fields"]),
        (["--cron", "* * * * * *"], 2, ["--cron '* * * * * *'", "five fields"]),
        (["--cron", "0 2 31 2 *"], 2, ["--cron '0 2 31 2 *': no such date exists"]),
        (["--cron", "99 2 * * *"], 2, ["--cron '99 2 * * *'", "its minute, '99', is invalid", "within its range"]),
        (["--timezone", "Mars/Olympus"], 2, ["--timezone 'Mars/Olympus': expected a name such as", "Europe/Zurich"]),
        (["--timezone", "../etc"], 2, ["--timezone '../etc'", "Europe/Zurich"]),
        (["--seed", "3"], 2, ["--seed 3", "date"]),
        (["--runner", "ray"], 2, ["runner ray: expected a sweep", "leave --runner out"]),
        (["--runner", "ray", "--sweep", "hidden=10,20"], 2, ["RAY_ADDRESS is not set"]),
        (["--dataset", "auto"], 2, ["--dataset 'auto'", "mnist"]),
        (["--port", "4300"], 2, ["--port 4300", "--with-server"]),
        ([], 1, ["PREFECT_API_URL", "--with-server"]),
    ],
)
def test_unusable_flags_are_refused_in_one_line(flags: list[str], code: int, parts: list[str], tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, SCRIPT, *flags], env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True
    )
    (line,) = refused.stderr.splitlines()
    assert (refused.returncode, refused.stdout) == (code, "")
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


def test_an_invalid_webhook_address_is_refused_in_one_line(tmp_path: Path) -> None:
    variables = environment(tmp_path, MNIST_BP_WEBHOOK_URL="hooks/secret")
    refused = subprocess.run([sys.executable, SCRIPT], env=variables, cwd=tmp_path, capture_output=True, text=True)
    (line,) = refused.stderr.splitlines()
    assert (refused.returncode, "MNIST_BP_WEBHOOK_URL: expected" in line, "secret" in line) == (2, True, False)


def test_a_server_that_does_not_reply_is_named(tmp_path: Path) -> None:
    variables = environment(tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api")
    refused = subprocess.run([sys.executable, SCRIPT], env=variables, cwd=tmp_path, capture_output=True, text=True)
    (line,) = refused.stderr.splitlines()
    assert refused.returncode == 1
    assert "cannot reach the Prefect server at http://127.0.0.1:9/api" in line


def test_a_server_that_refuses_is_named_in_one_line_before_anything_starts(tmp_path: Path) -> None:
    with RawHttp(http("403 Forbidden", b"{}")) as server:
        variables = environment(tmp_path, PREFECT_API_URL=f"{server.endpoint}/api")
        refused = subprocess.run([sys.executable, SCRIPT], env=variables, cwd=tmp_path, capture_output=True, text=True)
        address = f"{server.endpoint}/api"
    (line,) = refused.stderr.splitlines()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert line.startswith(f"error: the Prefect server at {address} refuses requests (HTTP 403): ")
    assert "PREFECT_API_AUTH_STRING" in line


def test_an_address_of_spaces_counts_as_none(tmp_path: Path) -> None:
    variables = environment(tmp_path, PREFECT_API_URL=" ")
    refused = subprocess.run([sys.executable, SCRIPT], env=variables, cwd=tmp_path, capture_output=True, text=True)
    (line,) = refused.stderr.splitlines()
    assert refused.returncode == 1
    assert line.startswith("error: no Prefect server is configured: set PREFECT_API_URL")


class Start(Protocol):
    """Starts a serving process with a server."""

    def __call__(self, directory: Path, *flags: str, parent: Sequence[str] = ()) -> Served: ...


@pytest.fixture
def start_with_server(migrated_database: Path) -> Iterator[Start]:
    """Start serving processes, and kill those that a failed test left."""
    started = []

    def start(directory: Path, *flags: str, parent: Sequence[str] = ()) -> Served:
        if not (home := directory / "prefect").exists():
            prefect_home(directory, migrated_database)
        where = ["--with-server", "--port", str(free_port()), *flags]
        started.append(Served(where, environment(home), directory, parent))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.kill(with_runs=True)


def test_its_server_ends_with_it_however_it_ends_and_has_a_ui_that_works_on_any_port(
    tmp_path: Path, start_with_server: Start
) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
    served = {number: start_with_server(tmp_path / number.name) for number in numbers}
    for number, each in served.items():
        children = each.ready().descendants
        assert children, "it should have started a Prefect server"
        with urllib.request.urlopen(f"{each.about['ui']}/ui-settings") as reply:
            assert json.load(reply)["api_url"] == each.about["api"]
        with urllib.request.urlopen(each.about["ui"]) as reply:
            assert "<html" in reply.read().decode()
        eventually(lambda each=each: "password " in each.log.read_text(), "it does not serve")  # type: ignore[misc]
        each.process.send_signal(number)
        code = each.process.wait(HANG_S)
        each.close()
        lines = each.log.read_text().splitlines()
        assert code == (-number if number == signal.SIGKILL else 0), lines
        assert lines[-1].startswith("password" if number == signal.SIGKILL else "stopped     no run was"), lines
        assert len(lines) == (4 if number == signal.SIGKILL else 5), lines
        assert_ended(children)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_during_the_start_prints_no_traceback(
    number: signal.Signals, tmp_path: Path, start_with_server: Start
) -> None:
    for moment in range(6):
        served = start_with_server(tmp_path / str(moment)).handling_signals()
        time.sleep(0.25 * moment)  # from its first imports to Prefect's
        served.process.send_signal(number)
        code = served.process.wait(HANG_S)
        served.close()
        assert (code, "Traceback" in served.log.read_text()) == (INTERRUPTED, False)


def test_sigterm_before_it_serves_ends_it_and_its_server(tmp_path: Path, start_with_server: Start) -> None:
    served = start_with_server(tmp_path)
    children = eventually(lambda: served.descendants, "it should start a Prefect server")
    served.process.terminate()
    code = served.process.wait(HANG_S)
    served.close()
    assert (code, "Traceback" in served.log.read_text()) == (INTERRUPTED, False), served.log.read_text()
    assert_ended(children)


def test_a_run_ends_with_the_process_that_owns_the_server_even_after_sigkill(
    tmp_path: Path, start_with_server: Start
) -> None:
    served = start_with_server(tmp_path).ready()
    train(served)
    processes = served.descendants
    assert len(processes) > 1, "it should have a server, and a run"
    served.kill(with_runs=False)
    assert_ended(processes)


def train(served: Served) -> FlowRun:
    """Start an endless run, and wait until it trains."""
    with client_of(served.about["api"], served.password):
        eventually(both_are_served, "they are not served")
        run = wait_for(start_run("train", {"config": ENDLESS}), "Running")
        artifact_of(run, "train-progress")
        return read_run(run.id)


def test_an_interruption_ends_the_run_in_progress_and_prints_how_to_resume_it(
    tmp_path: Path, start_with_server: Start
) -> None:
    served = start_with_server(tmp_path).ready()
    run, before = train(served), served.password
    command = interrupted(served, run, signal.SIGINT, tmp_path)
    again = start_with_server(tmp_path).ready()
    assert again.password != before
    assert interrupted(again, resumed_by_command(again, command), signal.SIGTERM, tmp_path) == command


def interrupted(served: Served, run: FlowRun, number: signal.Signals, place: Path) -> str:
    """Interrupt a serving process while a run trains.

    Returns:
        The command to resume the run.
    """
    processes = served.descendants
    served.process.send_signal(number)
    code = served.process.wait(HANG_S)
    served.close()
    assert_ended(processes)
    log = served.log.read_text()
    assert (code, "Traceback" in log, "Warning" in log) == (0, False, False), log
    (directory,) = place.glob("data/runs/*/")
    prefect = shlex.quote(str(Path(sys.executable).with_name("prefect")))
    command = f"{prefect} deployment run mnist-bp/train --param resume={directory.name}"
    assert log.splitlines()[-3:] == [
        f"flow run {run.name}: interrupted; it is marked as Crashed",
        "the run is kept; start this process again, and resume the run with:",
        command,
    ]
    with closing(sqlite3.connect(served.home / "prefect.db")) as database:
        states = database.execute("SELECT state_name FROM flow_run WHERE id = ?", [str(run.id)]).fetchall()
    assert states == [("Crashed",)]
    return command


def resumed_by_command(served: Served, command: str) -> FlowRun:
    """Resume a run, and wait until it trains."""
    variables = environment(served.home, PREFECT_API_URL=served.about["api"], PREFECT_API_AUTH_STRING=served.password)
    with client_of(served.about["api"], served.password):
        eventually(both_are_served, "they are not served")
        subprocess.run(shlex.split(command), env=variables, check=True, capture_output=True)
        run = eventually(lambda: newest_flow_run() if newest_flow_run().parameters.get("resume") else None, "no run")
        eventually(lambda: any("resum" in line for line in logs_of(run)), "it is not resumed")
        artifact_of(run, "train-progress")
        return read_run(run.id)


def test_it_ends_at_once_with_a_message_if_its_server_has_ended(tmp_path: Path, start_with_server: Start) -> None:
    served = start_with_server(tmp_path).ready()
    (server,) = served.descendants
    server.kill()
    code = served.process.wait(under_load(20))
    served.close()
    assert (code, "Prefect's server has ended unexpectedly" in served.log.read_text()) == (1, True)


def test_make_serve_leaves_nothing_behind_when_make_is_killed(tmp_path: Path, start_with_server: Start) -> None:
    """The recipe of make, run as make runs it, by a shell whose parent is $PPID."""
    places = f"--data-dir '{tmp_path}/data' --artifacts '{tmp_path}/artifacts'"
    (tmp_path / "environment").symlink_to(sys.prefix)  # make's BIN is relative to the checkout, without a space
    variables = [f"BIN={tmp_path}/environment/bin", f"ARGS=--port {free_port()} --json {places}"]
    command = ["make", "-n", "--no-print-directory", "serve", *variables]
    recipes = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stdout
    recipe = f"cd '{REPOSITORY}' && {recipes.splitlines()[-1]}"
    served = start_with_server(tmp_path, parent=["/bin/sh", "-c", '/bin/sh -c "$1"; :', "make", recipe]).ready()
    processes = served.descendants
    assert len(processes) > 1, "there should be the serving process, and a server"
    served.kill(with_runs=False)
    assert_ended(processes, 20)


def test_it_ends_if_the_process_of_end_with_has_already_ended(tmp_path: Path, start_with_server: Start) -> None:
    ended = subprocess.run(["/bin/sh", "-c", "echo $$"], capture_output=True, text=True).stdout.strip()
    served = start_with_server(tmp_path, "--end-with", ended)
    assert served.process.wait(HANG_S) == INTERRUPTED
    served.close()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = subprocess.run(
            [sys.executable, SCRIPT, "--with-server", "--port", str(port)],
            env=environment(tmp_path),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    (line,) = refused.stderr.splitlines()
    assert refused.returncode == 1
    assert f"--port {port}" in line
    assert not (tmp_path / FILE).exists(), "it replaced the password of the server that has the port"


def test_a_user_without_a_home_directory_serves(tmp_path: Path, start_with_server: Start) -> None:
    served = start_with_server(tmp_path, parent=["env", "-u", "PREFECT_HOME", *WITHOUT_HOME]).ready()
    assert (tmp_path / "data" / ".prefect" / FILE).exists()
    assert served.stop() == 0
