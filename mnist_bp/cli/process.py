"""How a process of ours starts, and how it ends: fast, with one line where something is wrong, and an exit code.

Exit codes: 0, 1 (failed), 2 (bad usage), 130 (interrupted). Nothing here needs more than the standard library.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

INTERRUPTED: Final = 130
"""Exit code: 128 and the number of SIGINT, as a shell has it."""

_ALLOCATIONS: Final = 100_000
"""New objects after which garbage is looked for; 700 by default."""


_OF_OUTPUT: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE})
"""Errors of printing. One of a file names it, and is a StoreError by now."""

_interrupted: Final = threading.Event()


def collect_garbage_seldom() -> None:
    """Look for garbage more seldom than Python does. To be called before anything large is imported.

    Importing torch and Prefect makes a million objects and hardly any garbage; looking for it took a tenth of the time.
    """
    gc.set_threshold(_ALLOCATIONS)


def print_error(message: str) -> None:
    """Say on stderr what went wrong."""
    print(f"error: {message}", file=sys.stderr)


def leave_when_interrupted() -> None:
    """Until `end_when_interrupted`, end the process as it is when Ctrl-C or a plain kill arrives."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        print_error("interrupted; nothing was begun")
        os._exit(INTERRUPTED)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, leave)


def end_when_interrupted(kept: Callable[[], str], grace: float = 10) -> Callable[[], None]:
    """From now on, say at once when Ctrl-C or a plain kill arrives, and see to it that the process ends.

    KeyboardInterrupt is raised, so that everything can wind up; where that takes too long, or on a second signal, the
    process is ended as it is. That also holds where the exception is lost, in a destructor or a callback of the
    garbage collector.

    Args:
        kept: Tells what is not lost, for the message.
        grace: Seconds for winding up.

    Returns:
        Takes the signals again, from whoever has taken them since.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        _interrupted.set()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        print_error(f"interrupted; {kept()}")
        last_resort = threading.Timer(grace, os._exit, (INTERRUPTED,))
        last_resort.daemon = True
        last_resort.start()
        raise KeyboardInterrupt

    def take_signals() -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, interrupt)

    take_signals()
    return take_signals


class LastExit:
    """Ends a script's process once every other exit handler has run, without unloading its libraries.

    Unloading torch's reads 110 MB of them into memory, only to leave. To be made before anything else that registers
    an exit handler: they run in reverse.
    """

    def __init__(self) -> None:
        self._code = 1
        self._told = False
        atexit.register(self._leave)

    def run(self, main: Callable[[], int]) -> None:
        """Call a script's main, and keep its exit code."""
        try:
            self._code = main()
        except SystemExit as exc:
            self._code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        except Exception as exc:
            if _interrupted.is_set():  # a library has replaced our KeyboardInterrupt
                self._code = INTERRUPTED
            elif isinstance(exc, OSError) and exc.errno in _OF_OUTPUT and exc.filename is None:
                self._tell_of_lost_output(exc)
            else:
                raise

    def _leave(self) -> None:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None where a process was started without one
            try:
                stream.flush()
            except ValueError:  # it is closed
                pass
            except OSError as exc:
                self._tell_of_lost_output(exc)
        os._exit(self._code)

    def _tell_of_lost_output(self, exc: OSError) -> None:
        if isinstance(exc, BrokenPipeError) or self._told:  # a reader that is gone has had enough
            return
        self._told = True
        self._code = self._code or 1
        with suppress(OSError):
            print_error(f"the output could not be written: {exc.strerror}")
