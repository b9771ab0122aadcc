"""`mnist-bp train`: the pipeline's steps in this process, without Prefect and its server."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pydantic_settings import SettingsConfigDict
from rich.console import Console

from mnist_bp.cli.console import Terminal
from mnist_bp.cli.flags import TrainCommand, parse
from mnist_bp.cli.process import end_when_interrupted
from mnist_bp.cli.run import ResumeHint, run_script
from mnist_bp.config import RunConfig
from mnist_bp.layout import new_run_id
from mnist_bp.pipeline import run_pipeline
from mnist_bp.summary import RunSummary
from mnist_bp.training.resume import RunRequest


class LocalTrainCommand(TrainCommand):
    """Download, preprocess, train by hand-written backpropagation, evaluate and publish one run, without Prefect."""

    model_config = SettingsConfigDict(**{**TrainCommand.model_config, "cli_prog_name": "mnist-bp train"})


def main(arguments: Sequence[str]) -> int:
    """Run the steps and print what came of them.

    Returns:
        The exit code: 0, 1 (failed) or 130 (interrupted); 2 (bad usage) is raised as SystemExit.
    """
    command, terminal = parse(LocalTrainCommand, arguments), Terminal(Console(stderr=True))
    unfinished = ResumeHint([sys.executable, "-m", "mnist_bp", "train"])
    end_when_interrupted(unfinished.what_is_kept)

    def make(config: RunConfig, started: RunRequest | None) -> RunSummary:
        unfinished.run = run = started or RunRequest(new_run_id(), config)
        return run_pipeline(run, terminal)

    return run_script(command, make, unfinished, terminal)
