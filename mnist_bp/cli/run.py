"""What `python flows/train.py` and `mnist-bp train` share: from the flags to the result and the exit code."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Sequence

from rich.console import Console

from mnist_bp.cli.console import logging_to
from mnist_bp.cli.flags import TrainCommand
from mnist_bp.cli.output import say
from mnist_bp.cli.process import INTERRUPTED, print_error
from mnist_bp.cli.run_result import print_result
from mnist_bp.config import RunConfig
from mnist_bp.errors import CertificateError, ConfigError, DivergenceError, MnistBpError
from mnist_bp.pipeline import track
from mnist_bp.preflight import check_tracking
from mnist_bp.summary import FinishedRun, RunSummary, published_already
from mnist_bp.training.journal import Journal
from mnist_bp.training.resume import load_resumable_run, resume_flags
from mnist_bp.training.workspace import newest_locked_run

logger = logging.getLogger(__name__)

Run = Callable[[RunConfig, str | None], RunSummary | FinishedRun]
"""Runs the pipeline with a configuration, or resumes the run of an id."""


class ResumeHint:
    """How to resume the run of this process, for messages about an interruption.

    Args:
        command: What resumes a run, without flags.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._before = newest_locked_run()

    @property
    def command(self) -> str | None:
        """The command that resumes the run; None if it has not begun to train."""
        directory = newest_locked_run()
        if directory is None or directory == self._before or not Journal(directory).path.exists():
            return None
        return shlex.join([*self._command, *resume_flags(directory.name, str(directory.parents[1]))])

    def text(self) -> str:
        """Return what is kept and how to resume."""
        if self.command is None:
            return "caches are kept for the next run"
        return f"the run is kept; resume it with:\n{self.command}"  # a separate line can be copied


def run_command(command: TrainCommand, run: Run, hint: ResumeHint, console: Console) -> int:
    """Run or resume the pipeline, and print the result on stdout, or one line for an error on stderr.

    Args:
        command: The flags.
        run: Called once, unless the run is already published.
        hint: How to resume the run.
        console: On stderr, for log lines.

    Returns:
        The exit code: 0, 1 (failed), 2 (a setting that cannot work) or 130 (interrupted).
    """
    try:
        with logging_to(console):
            result = _run(command, run, hint)
    except MnistBpError as exc:
        print_error(str(exc))
        return 2 if isinstance(exc, ConfigError) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    if command.json_output:
        say(json.dumps(result.model_dump(mode="json")))
    else:
        print_result(result)
    return 0


def _run(command: TrainCommand, run: Run, hint: ResumeHint) -> RunSummary | FinishedRun:
    check_tracking(command.settings)
    if command.resume is not None:  # refused before anything slow is started
        request = load_resumable_run(command.resume, command.settings, command.given)
        if request.manifest is not None:
            finished = published_already(request)
            logger.info(f"finished    {finished.finished}: {finished.manifest}")
            track(request.config, request.run_id)
            return finished
        config, resume = request.config, request.run_id
    else:
        config, resume = command.settings, None
    try:
        return run(config, resume)
    except Exception as exc:
        if not isinstance(exc, ConfigError | CertificateError | DivergenceError) and hint.command:
            for line in f"interrupted {hint.text()}".splitlines():
                logger.warning(line)
        raise
