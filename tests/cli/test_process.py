"""How a process of ours ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def test_an_interruption_of_which_something_else_was_made_ends_without_a_traceback() -> None:
    """A library that is interrupted in a callback may raise an exception of its own."""
    script = """
import os, signal
from mnist_bp.cli.process import LastExit, end_when_interrupted

def main():
    end_when_interrupted(lambda: "nothing is kept")
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt as exc:
        raise RuntimeError("the library cannot go on") from exc

LastExit().run(main)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted; nothing is kept\n")


@pytest.mark.parametrize("error", ["OSError('no one expected this')", "OSError(28, 'no one expected this', 'a file')"])
def test_an_exception_that_nobody_expected_is_told_whole(error: str) -> None:
    script = f"""
from mnist_bp.cli.process import LastExit

def main():
    raise {error}

LastExit().run(main)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" in done.stderr
    assert "no one expected this" in done.stderr


def test_a_reader_that_is_gone_hides_no_exception() -> None:
    script = """
import os
from mnist_bp.cli.process import LastExit

def main():
    print("what nobody reads")
    os.dup2(closed, 1)
    raise RuntimeError("no one expected this")

reading, closed = os.pipe()
os.close(reading)
LastExit().run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONUNBUFFERED": ""}
    )
    assert (done.returncode, "no one expected this" in done.stderr) == (1, True)
