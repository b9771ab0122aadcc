"""What `python flows/train.py` and `mnist-bp train` share: from the flags to the exit code."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Sequence

from rich.console import Console

from mnist_bp.cli.console import Terminal
from mnist_bp.cli.flags import TrainCommand
from mnist_bp.cli.process import INTERRUPTED, print_error
from mnist_bp.config import RunConfig
from mnist_bp.errors import CertificateError, ConfigError, DivergenceError, MnistBpError
from mnist_bp.layout import run_directory
from mnist_bp.summary import FinishedRun, RunSummary, print_summary, published_already
from mnist_bp.training.journal import Journal
from mnist_bp.training.resume import RunRequest, load_resumable_run, resume_flags

Make = Callable[[RunConfig, RunRequest | None], RunSummary | FinishedRun]
"""Makes the run of a configuration, or continues the one that was started with it."""


class ResumeHint:
    """The run that this process makes, for what is said when it is broken off.

    Args:
        command: What is called to continue it, without flags.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self.run: RunRequest | None = None

    @property
    def how_to_continue(self) -> str | None:
        """Tell how to go on with the run, if a step of it can have been taken."""
        if self.run is None:
            return None
        run_id, data_dir = self.run.run_id, self.run.config.data_dir
        if not Journal(run_directory(data_dir, run_id)).path.exists():
            return None
        return f"the run is kept, continue it with: {shlex.join([*self._command, *resume_flags(run_id, data_dir)])}"

    def what_is_kept(self) -> str:
        """Tell what is not lost."""
        return self.how_to_continue or "caches are kept for the next run"


def run_script(command: TrainCommand, make: Make, unfinished: ResumeHint, terminal: Terminal) -> int:
    """Make or continue a run, and print what came of it: on stdout the result, on stderr one line for an error.

    Args:
        command: The flags.
        make: Is called once, for a run that is not finished.
        unfinished: Told by `make` which run it is.
        terminal: On stderr.

    Returns:
        The exit code: 0, 1 (failed) or 130 (interrupted).
    """
    try:
        summary = _make(command, make, unfinished, terminal)
    except MnistBpError as exc:
        print_error(str(exc))
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    if command.json_output:
        print(json.dumps(summary.model_dump(mode="json")))
    elif isinstance(summary, RunSummary):
        print_summary(Console(), summary)
    return 0


def _make(command: TrainCommand, make: Make, unfinished: ResumeHint, terminal: Terminal) -> RunSummary | FinishedRun:
    config, started = command.config, None
    if command.resume is not None:  # what is refused, is refused before anything slow is begun
        started = load_resumable_run(command.resume, config, command.given)
        if started.manifest is not None:
            terminal.say(f"finished    {started.nothing_to_do}")
            return published_already(started)
        config = started.config
    try:
        return make(config, started)
    except Exception as exc:
        if not isinstance(exc, ConfigError | CertificateError | DivergenceError) and (
            how := unfinished.how_to_continue
        ):
            terminal.say(f"broken off  {how}", logging.WARNING)
        raise
