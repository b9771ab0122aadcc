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

from flows.runtime.choose_server import require_server
from flows.runtime.deployment_command import run_deployment_command
from mnist_bp.cli import alive
from mnist_bp.cli.flags import Flags, parse
from mnist_bp.cli.process import print_line
from mnist_bp.errors import without_secrets
from mnist_bp.storage.places import data_dir_from_environment

# Prefect is imported late: it reads its settings when it is imported.


class WorkerCommand(Flags, cli_prog_name="worker.py"):
    """Run what is due in a process pool, each run in a separate process."""

    pool: str = Field(default="mnist-bp", min_length=1)
    """Name of the pool, which must exist and have the type process."""

    with_healthcheck: bool = False
    """Reply to http://.../health on $PREFECT_WORKER_WEBSERVER_PORT, 8080 by default, while the worker asks for runs."""


def _work(pool: str, *, with_healthcheck: bool) -> None:
    from flows.runtime.notifications import check_webhook

    check_webhook()
    url = require_server("start one with make serve")
    from flows.runtime.serving import crash_killed_runs
    from flows.runtime.working import require_process_pool, work_until_interrupted

    require_process_pool(pool)
    crash_killed_runs()
    alive.stop()
    print_line(f"working     pool {pool} of {without_secrets(url)}")
    work_until_interrupted(pool, with_healthcheck=with_healthcheck)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is due until interrupted: exit code 0 once it works. Otherwise see `run_deployment_command`."""
    command = parse(WorkerCommand, arguments)
    return run_deployment_command(
        lambda: _work(command.pool, with_healthcheck=command.with_healthcheck), "starting", data_dir_from_environment()
    )


if __name__ == "__main__":
    fast_exit.run(main)
