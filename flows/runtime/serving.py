"""Run deployments in this process until it is interrupted, and report the runs that ended with it or before it.

Imports Prefect, which reads its settings then.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import PrefectException
from prefect.runner import Runner
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.runtime.choose_server import drain
from flows.runtime.crashed_runs import crash_zombie_runs, list_interrupted_children, resume_command
from flows.runtime.notifications import notify_crashed
from flows.runtime.pauses import read_pauses
from mnist_bp.cli.process import print_error, print_line
from mnist_bp.installation import use_installation


class InterruptibleRunner(Runner):
    """Prefect's runner, which ends in the same way on SIGTERM as on SIGINT."""

    def handle_sigterm(self, *_: object, **__: object) -> None:
        """Let asyncio cancel the runner; Prefect's handler would leave the event loop with unfinished coroutines."""
        signal.raise_signal(signal.SIGINT)


def run_until_interrupted(deployments: list[RunnerDeployment], announce: Callable[[], None]) -> None:
    """Run what is due, each run in a separate process, until SIGINT or SIGTERM; end and report the runs in progress.

    Args:
        deployments: What to run. What is paused of them on the server stays paused.
        announce: Called once a signal ends this function, just before it serves.
    """
    # a paused schedule would stay paused when a new process serves it
    runner = InterruptibleRunner(pause_on_shutdown=False)
    for deployment in deployments:
        keep_pauses(deployment)
    os.chdir(use_installation()["directory"])  # where each run starts

    async def serve() -> None:
        # From here on asyncio turns signals into a cancellation. An exception would be lost if it were raised in a
        # weak reference's callback.
        announce()
        for deployment in deployments:
            await runner.aadd_deployment(deployment)
        await runner.start()

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which asyncio replaces
        signal.signal(signal.SIGTERM, runner.handle_sigterm)
        asyncio.run(serve())
    except KeyboardInterrupt:
        report_interrupted_runs()


def keep_pauses(deployment: RunnerDeployment) -> None:
    """Pause what is paused of a deployment on the server."""
    pauses = read_pauses(deployment.full_name)
    deployment.paused = pauses.deployment
    for schedule in deployment.schedules or []:
        schedule.active = pauses.is_active(str(schedule.slug))


def crash_killed_runs() -> None:
    """Mark runs whose process was killed as Crashed, since each would keep the only slot of its deployment."""
    for zombie in crash_zombie_runs():
        print_line(zombie.line)
        if zombie.refusal is None:
            _print_resume_command(zombie.run, "once this process has started,")
        notify_crashed(zombie)


def report_interrupted_runs() -> None:
    """Print which runs were interrupted with this process, and how to resume them."""
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            killed = crash_zombie_runs()  # a run that had the time to do so has marked itself
            for zombie in killed:
                notify_crashed(zombie)
            interrupted = list_interrupted_children()
            drain()
    except (httpx.HTTPError, PrefectException) as exc:
        status = exc.response.status_code if isinstance(exc, httpx.HTTPStatusError) else None
        reply = f"does not reply ({type(exc).__name__})" if status is None else f"refuses requests (HTTP {status})"
        print_error(f"Prefect's server {reply}; for interrupted runs, see mnist-bp runs")
        return
    print_line("stopped     the runs in progress, too" if interrupted else "stopped     no run was in progress")
    for run in interrupted:
        print_line(f"flow run {run.name}: interrupted; it is marked as Crashed")
        _print_resume_command(run, "start this process again, and")
    for zombie in killed:
        if zombie.refusal is not None:
            print_line(zombie.line)


def _print_resume_command(run: FlowRun, when: str) -> None:
    if command := resume_command(run):
        print_line(f"the run is kept; {when} resume the run with:")
        print_line(command)  # a separate line can be copied
