"""The parent's end of `bench.worker`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from bench.machine import one_thread

REPOSITORY: Final = Path(__file__).parents[1]

LIMIT: Final = 900.0
"""Seconds after which a worker that does not answer is ended; the slowest training takes 20 on two cores."""


class WorkerError(Exception):
    """A worker ended, or cannot run here; the message is one line."""


class Worker:
    """A process that trains in one way, one thread, on demand; a context manager.

    Args:
        name: Which way, of `bench.peers.PEERS`.
        directory: See `bench.turns.write_task`.

    Raises:
        WorkerError: It did not get ready.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", name, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=REPOSITORY,
            env=one_thread(),
        )
        try:
            first = self._answer()
            if "absent" in first:
                raise WorkerError(first["absent"])
        except BaseException:
            self.close()
            raise

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Have it train, and wait.

        Raises:
            WorkerError: It did not answer.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it is gone; what it left on stderr says why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(LIMIT, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise WorkerError(self._startup_error())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _startup_error(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        ended = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        return f"its process ended, {ended}" + (f": {lines[-1]}" if lines else "")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
