"""How a process of this project starts and ends: fast, with an exit code, and with one line for an error.

Exit codes: 0, 1 (failed), 2 (bad usage), 130 (interrupted). Only the standard library and `errors` are imported.
"""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, FunctionType
from typing import Any, Final

from mnist_bp.errors import printable

INTERRUPTED: Final = 130
"""Exit code: 128 plus the number of SIGINT, as shells have it."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_GC_THRESHOLD: Final = 500_000
"""New objects between two garbage collections; Python's default is 700."""

_FRAME_WORDS: Final = 40_000
"""Size of the frame of `call_in_one_chunk`, in words of 8 bytes: it begins a chunk of 512 KiB."""

_OUTPUT_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE})
"""Errors of printing. An error of a file has the file's name, and is already a StoreError."""

_NO_TEMPORARY_DIRECTORY: Final = "No usable temporary directory"
"""What Python's tempfile raises, under this project, torch or Prefect: each directory is missing, full or read-only."""

_interrupted: Final = threading.Event()


def reduce_garbage_collection() -> None:
    """Collect garbage less often than Python does. Call this before large imports.

    Importing torch and Prefect creates a million objects and hardly any garbage; the collections took a tenth of the
    start-up time.
    """
    gc.set_threshold(_GC_THRESHOLD)


def _call(function: Callable[[], Any]) -> Any:
    return function()


call_in_one_chunk: Final = FunctionType(_call.__code__.replace(co_stacksize=_FRAME_WORDS), globals())
"""Calls a function so that the frames of all its calls lie in one chunk of memory.

CPython allocates frames in chunks of 16 KiB, and maps and unmaps one at each call across the border of two: a loop that
happens to cross it takes ten times as long, such as that of NumPy's types (0.01 s, or 0.1 s). A chunk is at least as
large as its first frame, rounded up to a power of two.

Source: `push_chunk` in CPython's Python/pystate.c.
"""


def print_error(message: str) -> None:
    """Print an error on stderr."""
    print(f"error: {printable(message)}", file=sys.stderr)


def print_line(message: str) -> None:
    """Print a line on stderr, at once."""
    print(printable(message), file=sys.stderr, flush=True)


def escape_unencodable() -> None:
    r"""Print characters that the encoding of stdout or stderr lacks as escapes such as \u2026, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not if the process was started without it
            stream.reconfigure(errors="backslashreplace")


def exit_when_interrupted(hint: str = "nothing was started") -> None:
    """Exit at once on SIGINT or SIGTERM, until `raise_when_interrupted` is called.

    Args:
        hint: What is kept, for the message.
    """

    def leave(_number: int, _frame: FrameType | None) -> None:
        print_error(f"interrupted; {hint}")
        os._exit(INTERRUPTED)

    for number in _SIGNALS:
        signal.signal(number, leave)


def raise_when_interrupted(hint: Callable[[], str], grace: float = 10) -> Callable[[], None]:
    """Raise KeyboardInterrupt on SIGINT or SIGTERM, after one line on stderr, and make sure that the process ends.

    If cleaning up takes longer than `grace`, or on a second signal, the process exits as it is. This also holds if the
    exception is lost in a destructor or in a callback of the garbage collector.

    Args:
        hint: Returns what is kept, and on a second line the command to resume, for the message.
        grace: Seconds for cleaning up.

    Returns:
        A function that installs the signal handlers again, after a library has replaced them.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        _interrupted.set()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        first, *others = hint().splitlines()
        print_error(f"interrupted; {first}")
        print(*others, sep="\n", end="\n" if others else "", file=sys.stderr)
        last_resort = threading.Timer(grace, os._exit, (INTERRUPTED,))
        last_resort.daemon = True
        last_resort.start()
        raise KeyboardInterrupt

    def install() -> None:
        for number in _SIGNALS:
            signal.signal(number, interrupt)

    install()
    return install


class FastExit:
    """Ends a process after all other exit handlers have run, without unloading its libraries.

    Its output never fails for a character that the encoding of a stream lacks; see `escape_unencodable`.

    Unloading torch reads 110 MB of it into memory first. Exit handlers run in reverse order, so create this object
    before anything else registers one.
    """

    def __init__(self) -> None:
        self._code = 1
        self._output_lost = False
        escape_unencodable()
        atexit.register(self._exit)

    def run(self, main: Callable[[], int]) -> None:
        """Call a script's main function, and keep its exit code."""
        try:
            self._code = call_in_one_chunk(main)
        except SystemExit as exc:
            self._code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        except Exception as exc:
            if _interrupted.is_set():  # a library has replaced the KeyboardInterrupt
                self._code = INTERRUPTED
            elif isinstance(exc, OSError) and exc.errno in _OUTPUT_ERRORS and exc.filename is None:
                self._report_lost_output(exc)
            elif isinstance(exc, FileNotFoundError) and _NO_TEMPORARY_DIRECTORY in str(exc):
                print_error(f"{exc.strerror}; set TMPDIR to a directory that is writable and has free space")
            else:
                raise

    def _exit(self) -> None:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None if the process was started without it
            try:
                stream.flush()
            except ValueError:  # closed
                pass
            except OSError as exc:
                self._report_lost_output(exc)
        os._exit(self._code)

    def _report_lost_output(self, exc: OSError) -> None:
        if isinstance(exc, BrokenPipeError) or self._output_lost:  # the reader has ended: it needs no more
            return
        self._output_lost = True
        self._code = self._code or 1
        with suppress(OSError):
            print_error(f"the output could not be written: {exc.strerror}")
