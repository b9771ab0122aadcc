"""How a process of this project ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def test_an_interruption_that_a_library_turns_into_another_exception_prints_no_traceback() -> None:
    """A library that is interrupted in a callback may raise another exception."""
    script = """
import os, signal
from mnist_bp.cli.process import FastExit, raise_when_interrupted

def main():
    raise_when_interrupted(lambda: "nothing is kept")
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt as exc:
        raise RuntimeError("the library cannot go on") from exc

FastExit().run(main)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted; nothing is kept\n")


@pytest.mark.parametrize("error", ["OSError('unexpected error')", "OSError(28, 'unexpected error', 'a file')"])
def test_an_unexpected_exception_prints_its_traceback(error: str) -> None:
    script = f"""
from mnist_bp.cli.process import FastExit

def main():
    raise {error}

FastExit().run(main)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" in done.stderr
    assert "unexpected error" in done.stderr


def test_an_exception_is_reported_even_if_the_reader_of_stdout_has_ended() -> None:
    script = """
import os
from mnist_bp.cli.process import FastExit

def main():
    print("unread output")
    os.dup2(closed, 1)
    raise RuntimeError("unexpected error")

reading, closed = os.pipe()
os.close(reading)
FastExit().run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONUNBUFFERED": ""}
    )
    assert (done.returncode, "unexpected error" in done.stderr) == (1, True)
