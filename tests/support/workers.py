"""Worker processes of a pool, as an operator starts them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import psutil

from tests.support.serving import REPOSITORY
from tests.support.waiting import HANG_S, eventually

OURS: Final = (str(REPOSITORY / "deployments" / "worker.py"),)
PREFECTS: Final = ("-m", "prefect", "worker", "start")


class Worker:
    """A worker process, whose data, artifacts and log are in its working directory; a `with` block ends by killing it.

    Args:
        variables: Environment with the server; places in it count.
        directory: Its working directory.
        flags: Flags of the worker.
        program: `OURS` or `PREFECTS`, as arguments of Python.
    """

    def __init__(
        self, variables: Mapping[str, str], directory: Path, *flags: str, program: tuple[str, ...] = OURS
    ) -> None:
        self.log = directory / "worker.log"
        places = {"MNIST_BP_DATA_DIR": str(directory / "data"), "MNIST_BP_ARTIFACTS": str(directory / "artifacts")}
        with self.log.open("ab") as log:
            self._begin = self.log.stat().st_size
            self.process = subprocess.Popen(
                [sys.executable, *program, *flags],
                env={"PREFECT_WORKER_QUERY_SECONDS": "1", **places, **variables},
                cwd=directory,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def ready(self) -> Self:
        """Wait until it asks for runs."""
        eventually(lambda: "started!" in self.text, "it does not start")
        return self

    @property
    def text(self) -> str:
        """What it and its runs have written."""
        with self.log.open() as log:
            log.seek(self._begin)
            return log.read()

    @property
    def runs(self) -> list[psutil.Process]:
        """The processes of its runs."""
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def stop(self) -> int:
        """Terminate it, and return its exit code."""
        self.process.terminate()
        return self.process.wait(HANG_S)

    def kill(self, *, with_runs: bool = True) -> list[psutil.Process]:
        """Kill it as `kill -9` does, unless it has ended.

        Returns:
            The processes of its runs.
        """
        runs = self.runs if self.process.poll() is None else []
        self.process.kill()
        for run in runs if with_runs else []:
            with suppress(psutil.NoSuchProcess):
                run.kill()
        self.process.wait()
        return runs
