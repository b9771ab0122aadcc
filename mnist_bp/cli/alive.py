"""Signs of life: a line on the terminal for every few seconds in which nothing else is printed.

Only the standard library is imported, so that a process can start them before its large imports.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

SILENCE_S: float = 5.0
"""Seconds without output before a line says that the work goes on."""


class SignsOfLife:
    """Prints lines such as `train       still working (10 s)` from a thread, until `stop` is called.

    Args:
        stage: What the process does first, in one word.
        stream: Where the lines go.
        silence: Seconds without other output before each line; by default `SILENCE_S`.
    """

    def __init__(self, stage: str, stream: TextIO, silence: float | None = None) -> None:
        self._stage, self._stream, self._silence = stage, stream, SILENCE_S if silence is None else silence
        self._since = self._last = time.monotonic()
        self._bars = 0
        self._stopped = threading.Event()
        self._printing = threading.Lock()  # no line is in progress once `stop` or `paused` have taken it
        threading.Thread(target=self._run, daemon=True).start()

    def printed(self, line: str) -> None:
        """Note that a line was printed; its first word is the stage from now on."""
        self._stage = (line.split() or [self._stage])[0]
        self._since = self._last = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Print nothing during the block, in which a progress bar shows the time."""
        with self._printing:
            self._bars += 1
        try:
            yield
        finally:
            self._bars -= 1
            self._since = self._last = time.monotonic()

    def stop(self) -> None:
        """Print nothing more."""
        with self._printing:
            self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(max(0.01, self._last + self._silence - time.monotonic())):
            now = time.monotonic()
            if now < self._last + self._silence:
                continue
            with self._printing:
                if self._bars == 0 and not self._stopped.is_set():
                    print(f"{self._stage:<12}still working ({now - self._since:.0f} s)", file=self._stream, flush=True)
            self._last = now


_of_process: SignsOfLife | None = None


def start(stage: str) -> None:
    """Start the signs of life of this process, if its stderr is a terminal."""
    global _of_process
    if _of_process is None and sys.stderr is not None and sys.stderr.isatty():
        _of_process = SignsOfLife(stage, sys.stderr)


def stop() -> None:
    """Stop the signs of life of this process."""
    if _of_process is not None:
        _of_process.stop()


def printed(line: str) -> None:
    """Note that a line was printed; see `SignsOfLife.printed`."""
    if _of_process is not None:
        _of_process.printed(line)


@contextmanager
def paused() -> Iterator[None]:
    """Print no signs of life during the block; see `SignsOfLife.paused`."""
    if _of_process is None:
        yield
        return
    with _of_process.paused():
        yield
