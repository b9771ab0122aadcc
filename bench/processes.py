"""Commands that are run to their end and timed from outside."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mnist_bp.errors import MnistBpError

REPOSITORY: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class Process:
    """A command that has ended; times are seconds since 1970.

    Args:
        started: Before it was started.
        first_line: When its first line on stderr arrived, or None.
        ended: After it ended.
        stdout: What it printed there.
    """

    started: float
    first_line: float | None
    ended: float
    stdout: str

    @property
    def seconds(self) -> float:
        """Seconds from start to end."""
        return self.ended - self.started


def run_process(command: Sequence[str], environment: Mapping[str, str]) -> Process:
    """Run a command in the repository, and wait for it.

    Raises:
        MnistBpError: Its exit code is not 0; quotes its last line on stderr.
    """
    with tempfile.TemporaryFile("w+") as stdout:
        started, first_line, lines = time.time(), None, []
        with subprocess.Popen(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=dict(environment), cwd=REPOSITORY
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                first_line = first_line or time.time()
                lines.append(line.strip())
            code = process.wait()
            ended = time.time()
        if code:
            raise MnistBpError(f"{' '.join(command)}: exit code {code}: {lines[-1] if lines else 'nothing on stderr'}")
        stdout.seek(0)
        return Process(started, first_line, ended, stdout.read())
