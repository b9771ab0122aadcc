"""The training pipeline: download, preprocess, train, evaluate, upload, promote.

As a script: `python flows/train.py --help`.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import shlex
import sys
import threading
from collections.abc import Sequence

# Prefect reads its settings when it is imported. A script has a terminal display of its own, so Prefect's console log
# (not the log in its UI) is kept to what is fatal. Its telemetry would call out, print a notice before the first line,
# and fail with a traceback where its SQLite database is busy.
if __name__ == "__main__":
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")

    from mnist_bp.cli import LastExit

    last_exit = LastExit()

import httpx
from prefect import flow
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from rich.console import Console

from flows.pipeline import begin, complete, prepare
from mnist_bp.cli import INTERRUPTED, TrainCommand, end_when_interrupted, parse_train, print_error
from mnist_bp.config import RunConfig
from mnist_bp.errors import CertificateError, ConfigError, DivergenceError, MnistBpError
from mnist_bp.journal import Journal
from mnist_bp.resume import WantedRun, find_started, new_or_started, resume_flags
from mnist_bp.run_directory import run_directory
from mnist_bp.summary import Summary, print_summary
from tasks.living import FLOW
from tasks.notify import tell_of_failure
from tasks.reporting import say, show, show_on

_latest: list[WantedRun | None] = [None]
"""The run that this process makes, for what a script says when it is broken off."""

# ---------------------------------------------------------------------------------------------------------------------
# the flow


@flow(
    name=FLOW,
    flow_run_name="{config.dataset}-{config.engine}-{config.seeds_label}",
    on_failure=[tell_of_failure],
    on_crashed=[tell_of_failure],
)
def train(config: RunConfig = RunConfig(), resume: str | None = None) -> Summary:  # noqa: B008 - frozen; the UI's form
    """Retrain the network from download to publication, and make it champion of its dataset if it is better.

    Args:
        config: What to train on, for how long, and where to publish it.
        resume: The id of a run to be continued, with what it was started with; nothing else may then be chosen.
    """
    begin()
    run = _latest[0] = new_or_started(config, resume)
    if run.manifest is not None:
        say(run.nothing_to_do)
        return run.finished
    return complete(run, *prepare(run))


# ---------------------------------------------------------------------------------------------------------------------
# the script


def _import_ahead() -> None:
    """Import what the tasks will need, while the main thread waits for Prefect's server to come up."""
    for module in (
        "mnist_bp.runs",
        "mnist_bp.evaluation",
        "mnist_bp.publish",
        "mnist_bp.promotion",
        "matplotlib.figure",
    ):
        importlib.import_module(module)


def _what_is_kept() -> str | None:
    """Tell how to go on with the run that was broken off, if a step of it can have been taken."""
    run = _latest[0]
    if run is None or not Journal(run_directory(run.config.data_dir, run.run_id)).path.exists():
        return None
    command = [sys.executable, __file__, *resume_flags(run.run_id, run.config.data_dir)]
    return f"the run is kept, continue it with: {shlex.join(command)}"


def _run(command: TrainCommand) -> Summary:
    config = command.config
    if command.resume is not None:  # what is refused, is refused before Prefect's server is waited for
        run = find_started(command.resume, config, command.given)
        if run.manifest is not None:
            show(run.nothing_to_do)
            return run.finished
        config = run.config
    threading.Thread(target=_import_ahead, daemon=True).start()
    show("starting    the Prefect flow mnist-bp")
    try:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):  # its thread sleeps out 1 s at the end
            return train(config, command.resume)
    except Exception as exc:
        if not isinstance(exc, ConfigError | CertificateError | DivergenceError) and (kept := _what_is_kept()):
            show(f"broken off  {kept}", logging.WARNING)
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow in this process and print what came of it.

    Returns:
        The exit code: 0, 1 (failed) or 130 (interrupted); 2 (bad usage) is raised as SystemExit.
    """
    command = parse_train(arguments)
    _latest[0] = None
    # Ctrl-C reaches Prefect's own server too, and Prefect would go on for a minute to tell a dead server of it
    end_when_interrupted(lambda: _what_is_kept() or "caches are kept for the next run")
    show_on(Console(stderr=True))
    try:
        summary = _run(command)
    except MnistBpError as exc:
        print_error(str(exc))
        return 1
    except (RuntimeError, httpx.TransportError) as exc:
        if "Failed to reach API" not in str(exc) and not isinstance(exc, httpx.TransportError):
            raise
        print_error(f"cannot reach the Prefect server at {PREFECT_API_URL.value()}: start it, or unset PREFECT_API_URL")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    if command.json_output:
        print(json.dumps(summary))
    elif "finished" not in summary:
        print_summary(Console(), summary)
    return 0


if __name__ == "__main__":
    last_exit.run(main)
