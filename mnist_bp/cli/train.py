"""`mnist-bp train`: all stages of a run in this process, without Prefect and its server."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from mnist_bp.cli.console import progress_bar
from mnist_bp.cli.flags import TrainCommand, parse
from mnist_bp.cli.preload import PUBLICATION, REPORT, start_preloading
from mnist_bp.cli.process import raise_when_interrupted
from mnist_bp.cli.run import ResumeHint, run_command
from mnist_bp.config import RunConfig
from mnist_bp.pipeline import open_run, run_pipeline
from mnist_bp.summary import FinishedRun, RunSummary, published_already


class LocalTrainCommand(TrainCommand, cli_prog_name="mnist-bp train"):
    """Download, preprocess, train by hand-written backpropagation, evaluate and publish one run, without Prefect."""


def main(arguments: Sequence[str]) -> int:
    """Run the pipeline and print its result.

    Returns:
        The exit code: 0, 1 (failed) or 130 (interrupted); 2 (bad usage) is raised as SystemExit.
    """
    command, console = parse(LocalTrainCommand, arguments), Console(stderr=True)
    hint = ResumeHint([sys.executable, "-m", "mnist_bp", "train"])
    raise_when_interrupted(hint.text)

    def run(config: RunConfig, resume: str | None) -> RunSummary | FinishedRun:
        request = open_run(config, resume)
        if request.manifest is not None:
            return published_already(request)
        start_preloading(PUBLICATION, REPORT)  # while the kernels run
        return run_pipeline(request, partial(progress_bar, console))

    return run_command(command, run, hint, console)
