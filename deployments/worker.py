"""Start a worker of a process pool that ends its runs when it is stopped, and reports them.

As a script: `python deployments/worker.py --pool mnist-bp`. On SIGTERM, Prefect's own worker kills its runs, which then
stay Running on the server. This one lets each run mark itself as Crashed, and prints how to resume it.
"""

from __future__ import annotations

from collections.abc import Sequence

if __name__ == "__main__":
    from mnist_bp.cli.process import FastExit, exit_when_interrupted

    exit_when_interrupted()
    fast_exit = FastExit()  # before other exit handlers

from pydantic import Field

from flows.runtime.choose_server import require_server, separate_password
from flows.runtime.proxies import bypass_proxies_on_loopback
from mnist_bp.cli import alive
from mnist_bp.cli.flags import Command, parse
from mnist_bp.cli.process import INTERRUPTED, print_error, print_line
from mnist_bp.errors import ConfigError, MnistBpError, without_secrets

# Prefect is imported late: it reads its settings when it is imported.


class WorkerCommand(Command, cli_prog_name="worker.py"):
    """Run what is due in a process pool, each run in a separate process."""

    pool: str = Field(default="mnist-bp", min_length=1)
    """Name of the pool, which must exist and have the type process."""

    with_healthcheck: bool = False
    """Reply to http://.../health on $PREFECT_WORKER_WEBSERVER_PORT, 8080 by default, while the worker asks for runs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is due until interrupted.

    Returns:
        The exit code: 0 (interrupted while it worked), 1 (failed), 130 (interrupted before); 2 (bad usage) is raised as
            SystemExit.
    """
    command = parse(WorkerCommand, arguments)
    alive.start("starting")
    try:
        bypass_proxies_on_loopback()
        separate_password()
        from flows.runtime.notifications import check_webhook

        check_webhook()
        url = require_server("start one with make serve")
        from flows.runtime.serving import crash_killed_runs
        from flows.runtime.working import require_process_pool, work_until_interrupted

        require_process_pool(command.pool)
        crash_killed_runs()
        alive.stop()
        print_line(f"working     pool {command.pool} of {without_secrets(url)}")
        work_until_interrupted(command.pool, with_healthcheck=command.with_healthcheck)
    except ConfigError as exc:
        print_error(str(exc))
        raise SystemExit(2) from exc
    except MnistBpError as exc:
        print_error(str(exc))
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    fast_exit.run(main)
