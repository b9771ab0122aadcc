"""Commands on a real terminal of a given width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(*arguments: str, columns: int) -> str:
    """Run `python ...` with stdout and stderr on a terminal, and return what it printed, without colours.

    Args:
        arguments: Of the interpreter.
        columns: Width of the terminal.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    without = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env={**without, "TERM": "xterm"}
    ):
        os.close(theirs)
        printed = b""
        with suppress(OSError):  # the other end is closed
            while chunk := os.read(ours, 1 << 16):
                printed += chunk
    os.close(ours)
    return _COLOURS.sub("", printed.decode()).replace("\r\n", "\n")
