"""How a process of this project ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_characters_that_the_encoding_lacks_are_printed_as_escapes(stream: str, encoding: str) -> None:
    """Also half of a character, which is what Python makes of a file name with damaged bytes."""
    script = f"""
import sys
from mnist_bp.cli.process import FastExit

def main():
    print("caf\\u00e9 \\u2026 \\udce9", file=sys.{stream})
    return 0

FastExit().run(main)
"""
    environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment)
    shown = {
        "ascii": rb"caf\xe9 \u2026 \udce9",
        "latin-1": b"caf\xe9 \\u2026 \\udce9",
        "utf-8": "café … \\udce9".encode(),
    }
    assert done.returncode == 0, done.stderr
    assert getattr(done, stream) == shown[encoding] + b"\n"


def test_without_a_temporary_directory_one_line_names_the_variable_that_sets_it(tmp_path: Path) -> None:
    script = """
import tempfile
from mnist_bp.cli.process import FastExit

tempfile._candidate_tempdir_list = lambda: ["/missing/tmp"]  # it tries /tmp and the working directory, too
FastExit().run(lambda: tempfile.TemporaryFile())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: No usable temporary directory found in ['/missing/tmp']; set TMPDIR to ")
