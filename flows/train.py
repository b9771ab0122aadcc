"""The training pipeline: download, preprocess, train, evaluate, upload, promote.

As a script: `python flows/train.py --help`.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

# Prefect reads its settings when it is imported. A script has a terminal display of its own, so Prefect's console log
# (not the log in its UI) is kept to what is fatal. Its telemetry would call out, and print a notice first.
if __name__ == "__main__":
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("DO_NOT_TRACK", "1")

    from mnist_bp.cli.process import LastExit, collect_garbage_seldom, leave_when_interrupted

    collect_garbage_seldom()
    leave_when_interrupted()

    from flows.runtime.api import prestart
    from mnist_bp.cli.flags import TrainCommand, parse

    parse(TrainCommand)  # what cannot be meant is refused before anything is started
    last_exit = LastExit()
    prestarted = prestart()  # its 2 s pass beside those of the imports

from prefect import flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from rich.console import Console

from flows.pipeline import begin, complete, completed, prepare
from flows.runtime.api import use_server
from flows.runtime.crashed_runs import FLOW
from flows.runtime.notifications import notify_failed
from flows.runtime.server import LocalServer
from mnist_bp.cli.console import Terminal
from mnist_bp.cli.flags import TrainCommand, parse
from mnist_bp.cli.process import end_when_interrupted
from mnist_bp.cli.run import ResumeHint, run_script
from mnist_bp.config import RunConfig
from mnist_bp.engines.choose import choose_engine
from mnist_bp.errors import MnistBpError
from mnist_bp.summary import FinishedRun, RunSummary, headline, published_already
from mnist_bp.training.resume import RunRequest, open_run
from tasks.ui import say, show_on

_unfinished = ResumeHint([sys.executable, __file__])

# ---------------------------------------------------------------------------------------------------------------------
# the flow


@flow(
    name=FLOW,
    flow_run_name="{config.dataset}-{config.engine}-{config.seeds_label}",
    on_failure=[notify_failed],
    on_crashed=[notify_failed],
)
def train(
    config: RunConfig = RunConfig(),  # noqa: B008 - frozen; the UI's form
    resume: str | None = None,
) -> RunSummary | FinishedRun:
    """Retrain the network from download to publication, and make it champion of its dataset if it is better.

    Args:
        config: What to train on, for how long, and where to publish it.
        resume: The id of a run to be continued, with what it was started with; nothing else may then be chosen.
    """
    begin()
    run = _unfinished.run = open_run(config, resume)
    if run.manifest is not None:
        say(f"finished    {run.nothing_to_do}")
        return completed(run.nothing_to_do, published_already(run))
    summary = complete(run, *prepare(run))
    return completed(headline(summary), summary)


# ---------------------------------------------------------------------------------------------------------------------
# the script


def _load_ahead(config: RunConfig) -> None:
    """Load what the tasks will need, while the main thread waits for Prefect's server; errors are left to the tasks."""
    with suppress(MnistBpError):
        for module in (
            "mnist_bp.training.run",
            "mnist_bp.training.evaluation",
            "mnist_bp.registry.publish",
            "mnist_bp.registry.promotion",
        ):
            importlib.import_module(module)
        choose_engine(config.engine, config.hidden, config.batch_size)


def main(arguments: Sequence[str] | None = None, server: LocalServer | None = None) -> int:
    """Run the flow in this process and print what came of it.

    Args:
        arguments: Flags and their values; the process's own when None.
        server: A Prefect server that was started ahead; it is ended.

    Returns:
        The exit code: 0, 1 (failed) or 130 (interrupted); 2 (bad usage) is raised as SystemExit.
    """
    command, terminal = parse(TrainCommand, arguments), Terminal(Console(stderr=True))
    _unfinished.run = None
    take_signals = end_when_interrupted(_unfinished.what_is_kept)
    show_on(terminal)

    def stay_interruptible(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001 - Prefect calls by name
        take_signals()  # Prefect took SIGTERM when the flow began, and might lose the exception that it makes of it

    def make(config: RunConfig, started: RunRequest | None) -> RunSummary | FinishedRun:
        threading.Thread(target=_load_ahead, args=(config,), daemon=True).start()
        terminal.say("starting    the Prefect flow mnist-bp")
        interruptible = train.with_options(on_running=[stay_interruptible])
        # the heartbeat's thread sleeps out 1 s at the end
        with use_server(server), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            return interruptible(config, started.run_id if started else None)

    try:
        return run_script(command, make, _unfinished, terminal)
    finally:
        if server is not None:
            server.stop()  # where no flow was begun


if __name__ == "__main__":
    last_exit.run(lambda: main(server=prestarted))
