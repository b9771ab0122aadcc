"""The script as a process: which Prefect server it uses, how it ends, and what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.settings import PREFECT_API_URL

from mnist_bp.results.dataset import CachedDataset, RawDataset
from tests.conftest import ENDLESS, SMALL, data_dir_of
from tests.support.raw_http import RawHttp, http
from tests.support.scripts import SCRIPT, WITHOUT_HOME, Start, prefect_home
from tests.support.waiting import HANG_S, assert_ended, eventually, under_load

pytestmark = pytest.mark.usefixtures("warm_caches")


def select(home: Path, query: str) -> list[tuple[Any, ...]]:
    """Query Prefect's database after its server has ended."""
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        rows: list[tuple[Any, ...]] = database.execute(query).fetchall()
        return rows


def until_it_trains(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait for the first checkpoint.

    Returns:
        The process's children.
    """
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("train       step"):
            children: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
            return children
    raise AssertionError("it never trained")


def assert_server_ended(processes: list[psutil.Process]) -> None:
    assert processes, "the script should have started a Prefect server"
    assert_ended(processes)


@pytest.mark.slow
def test_the_script_runs_the_lab_on_mnist_with_a_separate_server_within_1200_mb(
    mnist_mirrors: str, start_alone: Start, tmp_path: Path
) -> None:
    process = start_alone("--json", "--dataset", "mnist", MNIST_BP_MIRRORS=mnist_mirrors)
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.02)
    out, err = process.communicate()
    assert process.returncode == 0, err
    printed = json.loads(out)
    assert [point["step"] for point in printed["checkpoints"]] == list(range(1_000, 10_001, 1_000))
    assert 0.902 <= printed["accuracy"] <= 0.932
    assert 872 <= printed["lab_correct_of_1000"] <= 921
    assert 0 < peak < 1.2e9
    assert list(Path().glob("artifacts/runs/*/manifest.json")) == [Path(printed["manifest"]).relative_to(tmp_path)]


# --- a separate server -----------------------------------------------------


HTTP_AND_SOCKS5 = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "PREFECT_SERVER_API_AUTH_STRING": "another:server",
    "PREFECT_SERVER_API_BASE_PATH": "/another",
}
SOCKS = {
    "ALL_PROXY": "socks://127.0.0.1:9/",
    "all_proxy": "socks://127.0.0.1:9/",
    "PREFECT_API_AUTH_STRING": "another:server",
}


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Args:
        place: Its working directory.
        code: Its exit code.
        out: Its stdout.
        err: Its stderr.
        children: The processes that it had while it trained.
    """

    place: Path
    code: int
    out: str
    err: str
    children: list[psutil.Process]

    @property
    def home(self) -> Path:
        """The directory of its Prefect server."""
        return self.place / "prefect"

    @property
    def run_id(self) -> str:
        """The id that it was published with."""
        return str(json.loads(self.out)["run_id"])


def run_in(place: Path, command: list[str], raw: RawDataset, **variables: str) -> Ended:
    """Run a command in a directory, with caches, with no variables of ours or Prefect's but the given ones."""
    shutil.copytree(data_dir_of(raw), place / "data")
    ours = ("AWS_", "MNIST_BP_", "PREFECT_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    err, children = "", list[psutil.Process]()
    with subprocess.Popen(
        [*command, *SMALL, "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place, env={**inherited, **variables},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            err += line
            if line.startswith("train       step"):
                children = children or psutil.Process(process.pid).children(recursive=True)
        out = process.stdout.read()
    return Ended(place, process.returncode, out, err, children)


@pytest.fixture(scope="module")
def ended(
    sample_raw: RawDataset, sample: CachedDataset, migrated_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Ended:
    """One run for several claims: behind proxies, in a directory with modules of names that its server imports."""
    place = tmp_path_factory.mktemp("ended")
    (place / "random.py").write_text("raise SystemExit('the wrong random')")
    (place / "flows" / "runtime").mkdir(parents=True)
    (place / "flows" / "runtime" / "server.py").write_text("raise SystemExit('the wrong server')")
    variables = {"PREFECT_HOME": str(prefect_home(place, migrated_database)), "PREFECT_API_URL": "", **HTTP_AND_SOCKS5}
    return run_in(place, [sys.executable, str(SCRIPT)], sample_raw, **variables)


@pytest.fixture(scope="module")
def ended_without_home(
    sample_raw: RawDataset, sample: CachedDataset, tmp_path_factory: pytest.TempPathFactory
) -> Ended:
    """A run of a user without a home directory, behind another proxy."""
    place, command = tmp_path_factory.mktemp("homeless"), [*WITHOUT_HOME, sys.executable, str(SCRIPT)]
    return run_in(place, command, sample_raw, PYTHONPATH=str(SCRIPT.parents[1]), **SOCKS)


def test_a_run_leaves_its_whole_history_in_prefects_database_and_no_process(ended: Ended) -> None:
    assert ended.code == 0, ended.err
    assert_server_ended(ended.children)
    assert select(ended.home, "SELECT name, state_name FROM flow_run") == [("mnist-sample-cpu-seed1", "Completed")]
    assert select(ended.home, "SELECT name, state_name FROM task_run ORDER BY start_time") == [
        ("download-mnist-sample", "Completed"),
        ("preprocess-mnist-sample", "Completed"),
        ("train-mnist-sample-seed1", "Completed"),
        ("evaluate-mnist-sample", "Completed"),
        (f"upload-{ended.run_id}", "Completed"),
        (f"promote-{ended.run_id}", "Completed"),
    ]
    logged = "\n".join(message for (message,) in select(ended.home, "SELECT message FROM log ORDER BY timestamp"))
    for line in ("download    mnist-sample: hit", "train       step       200", "promote     promoted", "Finished in"):
        assert line in logged


def test_a_run_that_fails_is_recorded_as_failed_and_leaves_no_process(start_alone: Start, home: Path) -> None:
    process = start_alone(*SMALL, "--learning-rate", "3e38", "--seed", "2", "--checkpoint-every", "1")
    children = until_it_trains(process)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 1
    assert "error: " in err
    assert_server_ended(children)
    assert select(home, "SELECT state_name FROM flow_run") == [("Failed",)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_the_script_with_one_line_and_leave_no_process_and_no_partial_publication(
    number: signal.Signals, start_alone: Start, home: Path
) -> None:
    process = start_alone(*ENDLESS)
    children = until_it_trains(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130
    assert "error: interrupted; the run is kept; resume it with:\n" in err
    assert "Traceback" not in err
    assert_server_ended(children)
    assert not Path("artifacts/runs").exists()
    assert select(home, "SELECT state_name FROM flow_run") == [("Crashed",)]


def test_a_script_killed_by_sigkill_leaves_no_process(start_alone: Start) -> None:
    process = start_alone(*ENDLESS)
    children = until_it_trains(process)
    process.kill()
    assert_server_ended(children)


def test_ctrl_c_during_the_imports_prints_one_line_and_leaves_no_process(start_alone: Start) -> None:
    process = start_alone(*SMALL)
    watched = psutil.Process(process.pid)
    assert process.stderr is not None
    first = process.stderr.readline()
    children = eventually(lambda: watched.children(recursive=True), "it started no server")
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=HANG_S)
    assert (out, first) == ("", "starting    Prefect, with a server for this run alone: takes some seconds\n")
    assert rest == "error: interrupted; nothing was started\n"
    assert process.returncode == 130
    assert_server_ended(children)


def test_ctrl_c_ends_the_script_soon_even_if_prefects_server_was_killed_before(start_alone: Start) -> None:
    process = start_alone(*ENDLESS)
    (server,) = until_it_trains(process)
    server.kill()
    time.sleep(1)  # log lines follow that cannot be sent
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=under_load(30))
    assert process.returncode == 130
    assert "error: interrupted" in err


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to which every Python process appends its arguments when it starts."""
    noted = tmp_path / "started"
    noted.touch()
    (tmp_path / "hooks").mkdir()
    hook = f"import sys\nwith open({str(noted)!r}, 'a') as file:\n    print(sys.orig_argv, file=file)\n"
    (tmp_path / "hooks" / "sitecustomize.py").write_text(hook)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hooks"))
    return noted


@pytest.mark.parametrize(("flags", "code"), [(["--help"], 0), (["--steps", "0"], 2)])
def test_help_and_bad_usage_start_no_server(flags: list[str], code: int, start_alone: Start, started: Path) -> None:
    process = start_alone(*flags)
    process.communicate(timeout=HANG_S)
    assert process.returncode == code
    time.sleep(1)  # a server would be a separate process
    (script,) = started.read_text().splitlines()
    assert str(SCRIPT) in script


def test_the_server_imports_no_module_from_the_working_directory(ended: Ended) -> None:
    assert (ended.place / "random.py").exists()
    assert (ended.code, "the wrong" in ended.err) == (0, False), ended.err


def test_resuming_a_published_run_ends_the_prestarted_server(ended: Ended, start_alone: Start) -> None:
    process = start_alone("--resume", ended.run_id, "--artifacts", str(ended.place / "artifacts"))
    children: list[psutil.Process] = []
    while process.poll() is None:
        children = children or psutil.Process(process.pid).children()
        time.sleep(0.01)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, err
    assert "published already" in err
    assert_server_ended(children)


@pytest.mark.parametrize("run", ["ended", "ended_without_home"], ids=["http-socks5-password", "socks-password"])
def test_proxies_and_settings_of_another_server_do_not_reach_the_separate_server(
    run: str, request: pytest.FixtureRequest
) -> None:
    ended: Ended = request.getfixturevalue(run)
    assert ended.code == 0, ended.err
    assert ended.run_id
    assert "Traceback" not in ended.err


def test_a_proxy_of_an_unknown_scheme_is_refused_in_one_line_without_its_password(start_alone: Start) -> None:
    process = start_alone(*SMALL, ALL_PROXY="ftp://user:canary@127.0.0.1:9")
    out, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, out) == (2, "")
    assert err == "error: ALL_PROXY starts with ftp://: expected http://, https:// or socks5://\n"


# --- a server that settings name --------------------------------------------------


@pytest.mark.parametrize("named_by", ["variable", "profile"])
def test_a_running_server_is_used_and_none_is_started(
    named_by: str, prefect_server: None, start: Start, tmp_path: Path
) -> None:
    url, profiles = str(PREFECT_API_URL.value()), tmp_path / "profiles.toml"
    profiles.write_text(f'active = "here"\n[profiles.here]\nPREFECT_API_URL = "{url}"\n')
    environment = {"PREFECT_API_URL": url} if named_by == "variable" else {"PREFECT_PROFILES_PATH": str(profiles)}
    process = start(*SMALL, "--json", PREFECT_HOME=str(tmp_path / "prefect"), **environment)
    watched, children = psutil.Process(process.pid), set[int]()
    while process.poll() is None:
        for child in watched.children():
            with contextlib.suppress(psutil.Error):  # it has ended
                # a server is a Python process that lives for seconds; libraries call ldconfig
                if time.time() - child.create_time() > 1 and sys.executable in child.cmdline():
                    children.add(child.pid)
        time.sleep(0.02)
    out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, err
    assert not children
    assert Path(json.loads(out)["manifest"]).exists()
    assert not (tmp_path / "prefect" / "prefect.db").exists()


def test_a_prefect_server_that_does_not_run_is_one_line_that_offers_mnist_bp_train(
    start: Start, tmp_path: Path
) -> None:
    process = start(*SMALL, PREFECT_API_URL="http://127.0.0.1:9/api", PREFECT_HOME=str(tmp_path / "prefect"))
    out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 1
    assert out == ""
    (line,) = [line for line in err.splitlines() if not line.startswith("starting ")]
    assert line.startswith("error: cannot reach the Prefect server at http://127.0.0.1:9/api")
    assert "empty PREFECT_API_URL" in line
    assert "mnist-bp train" in line


def test_a_prefect_server_that_refuses_is_one_line_and_no_run_is_started(start: Start, tmp_path: Path) -> None:
    with RawHttp(http("422 Unprocessable Entity", b"{}")) as server:
        address = f"{server.endpoint}/api"
        process = start(*SMALL, PREFECT_API_URL=address, PREFECT_HOME=str(tmp_path / "prefect"))
        out, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, out) == (1, "")
    (line,) = [line for line in err.splitlines() if not line.startswith("starting ")]
    assert line.startswith(f"error: the Prefect server at {address} refuses requests (HTTP 422): ")
    assert "PREFECT_API_AUTH_STRING" in line
    assert not (tmp_path / "data" / "runs").exists()


def test_a_user_without_a_home_directory_trains(ended_without_home: Ended) -> None:
    assert ended_without_home.code == 0, ended_without_home.err
    assert list(ended_without_home.place.glob("artifacts/runs/*/manifest.json"))


@pytest.mark.parametrize("script", ["flows/train.py", "deployments/serve.py"])
def test_a_home_in_which_prefect_cannot_have_its_directory_is_one_line_that_names_home(script: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, SCRIPT.parents[1] / script],
        capture_output=True,
        text=True,
        env={**environment, "HOME": "/proc"},
    )
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith("error: Prefect's directory /proc/.prefect, in HOME=/proc, cannot be created (")
    assert line.endswith("): set PREFECT_HOME to a directory that is writable")


def test_mnist_bp_train_needs_no_home() -> None:
    command = [str(Path(sys.executable).with_name("mnist-bp")), "train", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOME": "/proc"})
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
