"""A test session prints failures as they happen, and a summary when it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.waiting import eventually

REPOSITORY = Path(__file__).parents[1]

TESTS = """
import subprocess, sys, time
from pathlib import Path
import pytest

@pytest.fixture(scope="session", autouse=True)
def server():
    yield
    time.sleep(1)  # as a server that ends
    Path(f"ended-{time.time_ns()}").touch()

def test_that_fails():
    assert 1 + 1 == 3, "arithmetic"

def test_that_waits():
    Path("waiting").touch()
    while not Path("go on").exists():
        time.sleep(0.01)
"""

Session = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Start pytest on `TESTS` with a number of workers, in a separate process group."""
    (tmp_path / "test_two.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    started: list[subprocess.Popen[str]] = []

    def begin(workers: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pytest", "-p", "tests.support.reporting", "-n", workers, "--color=no"]
        started.append(
            subprocess.Popen(
                command,
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return started[0]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read output until a line contains a text."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    raise AssertionError("".join(seen))


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_failure_is_printed_while_other_tests_run(workers: str, session: Session, tmp_path: Path) -> None:
    process = session(workers)
    read_until(process, "test_two.py::test_that_fails (call)")
    read_until(process, "AssertionError: arithmetic")
    assert process.poll() is None
    (tmp_path / "go on").touch()
    out, _ = process.communicate()
    assert "1 failed, 1 passed" in out
    assert process.returncode == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c_ends_in_a_summary_even_if_it_is_pressed_twice(workers: str, session: Session, tmp_path: Path) -> None:
    process = session(workers)
    read_until(process, "AssertionError: arithmetic")
    eventually((tmp_path / "waiting").exists, "the other test did not start")
    os.killpg(process.pid, signal.SIGINT)
    read_until(process, "was running: test_two.py::test_that_waits")
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate()
    assert "FAILED test_two.py::test_that_fails - AssertionError: arithmetic" in out
    assert "1 failed in" in out
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert list(tmp_path.glob("ended-*"))
