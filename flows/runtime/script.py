"""Run a flow as a script: flags, a Prefect server that is started early, signals, the terminal, and the exit code.

if __name__ == "__main__":
script = Script()         # before Prefect is imported
...
if __name__ == "__main__":
script.run(train)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from flows.runtime.choose_server import prestart, separate_password, use_server
from flows.runtime.home import ensure_home
from flows.runtime.proxies import bypass_proxies_on_loopback
from flows.runtime.server import LocalServer
from mnist_bp.cli import alive
from mnist_bp.cli.flags import TrainCommand, parse
from mnist_bp.cli.preload import PUBLICATION, REPORT, start_preloading
from mnist_bp.cli.process import (
    FastExit,
    exit_when_interrupted,
    print_error,
    print_line,
    raise_when_interrupted,
    reduce_garbage_collection,
)
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError

if TYPE_CHECKING:  # the server starts before these are imported
    from prefect import Flow

    from mnist_bp.summary import FinishedRun, RunSummary

_PRELOADED: Final = (  # of those that the flow imports later, the slow ones
    "prefect.flow_engine",
    "prefect.task_engine",
    "fastapi.encoders",
    "numpy.ma",
    "mnist_bp.training.run",
    "mnist_bp.training.evaluation",
    "mnist_bp.report.nights",
    *PUBLICATION,
)


class Script:
    """This process as a script. Checks the flags, and starts a Prefect server while Prefect is imported.

    Prefect reads its settings when it is imported. The script prints its progress itself, so Prefect's console log (not
    the log in its UI) is limited to fatal errors; its telemetry would send requests, and print a notice first.
    """

    def __init__(self) -> None:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        os.environ.setdefault("DO_NOT_TRACK", "1")
        reduce_garbage_collection()
        exit_when_interrupted()
        data_dir = parse(TrainCommand).data_dir
        try:
            ensure_home(data_dir)
            bypass_proxies_on_loopback()
        except ConfigError as exc:
            print_error(str(exc))
            raise SystemExit(2) from exc
        separate_password()
        alive.start("starting")
        self._exit = FastExit()
        self._server = prestart()
        line = f"starting    Prefect{', with a server for this run alone' if self._server else ''}: takes some seconds"
        print_line(line)
        alive.printed(line)

    def run(self, flow: Flow[..., Any]) -> None:
        """Run a flow, and exit with its exit code."""
        self._exit.run(lambda: main(flow, server=self._server))


def main(flow: Flow[..., Any], arguments: Sequence[str] | None = None, server: LocalServer | None = None) -> int:
    """Run a flow in this process and print its result.

    Args:
        flow: `flows.train.train`.
        arguments: Flags and their values; those of the process when None.
        server: A Prefect server from `prestart`, or None; it is stopped at the end.

    Returns:
        The exit code: 0, 1 (failed) or 130 (interrupted); 2 (bad usage) is raised as SystemExit.
    """
    from prefect.exceptions import MissingResult
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from rich.console import Console

    from flows.runtime.hooks import last_result
    from mnist_bp.cli.console import progress_bar
    from mnist_bp.cli.run import ResumeHint, run_command
    from mnist_bp.pipeline import no_progress_bar
    from tasks import ui

    command, console = parse(TrainCommand, arguments), Console(stderr=True)
    hint = ResumeHint([sys.executable, sys.argv[0]])
    install_signal_handlers = raise_when_interrupted(hint.text)

    def keep_signals(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001 - Prefect's protocol names them
        install_signal_handlers()  # Prefect takes SIGTERM as a flow starts, and may lose the exception that it raises

    def run(config: RunConfig, resume: str | None) -> RunSummary | FinishedRun:
        # while the main thread waits for Prefect's server
        start_preloading(_PRELOADED, (*REPORT, "nights.svg"), partial(_load_engine, config))
        console.print("starting    the Prefect flow mnist-bp")
        interruptible = flow.with_options(on_running=[*flow.on_running_hooks, keep_signals])
        # the thread of the heartbeat sleeps for 1 s at the end
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), use_server(server):
            try:
                return cast("RunSummary | FinishedRun", interruptible(config, resume))
            except MissingResult:
                if (result := last_result()) is None:
                    raise
                return result

    ui.show_progress_with(partial(progress_bar, console))
    try:
        return run_command(command, run, hint, console)
    finally:
        ui.show_progress_with(no_progress_bar)
        if server is not None:
            server.stop()  # if no flow was started


def _load_engine(config: RunConfig) -> None:
    from mnist_bp.engines.choose import choose_engine

    choose_engine(config.engine, *config.grid.largest)
