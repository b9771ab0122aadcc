"""A worker of a process pool that ends its runs before it ends, so that none stays Running on the server.

Imports Prefect, which reads its settings then.
"""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from typing import Final

import psutil
from prefect import get_client
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from flows.runtime.serving import report_interrupted_runs
from mnist_bp.errors import ConfigError, MnistBpError

STOP_TIMEOUT_S: Final = 20.0
"""Seconds for the runs to end, and to notify; a container must be given more (`stop_grace_period`)."""

_POLL_INTERVAL_S: Final = 0.1


def require_process_pool(name: str) -> None:
    """Check a pool before a worker is started for it: Prefect's worker would wait for one that does not exist.

    Raises:
        ConfigError: No such pool exists, or its runs do not start as processes.
    """
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_work_pool(name)
        except ObjectNotFound as exc:
            hint = "create it, and deploy to it: python deployments/deploy.py --pool"
            raise ConfigError(f"pool {name!r}: no such work pool on the server; {hint} {name}") from exc
    if pool.type != "process":
        raise ConfigError(f"pool {name!r}: its type is {pool.type}; expected process: its runs start elsewhere")


def work_until_interrupted(pool: str, *, with_healthcheck: bool) -> None:
    """Run what is due in a pool until SIGINT or SIGTERM; end and report the runs in progress.

    Args:
        pool: Name of a process pool.
        with_healthcheck: Whether to reply on the port of Prefect's health check of workers.

    Raises:
        MnistBpError: The worker failed, such as when the server has not replied for some minutes.
    """
    if asyncio.run(_work(pool, with_healthcheck)):
        report_interrupted_runs()


async def _work(pool: str, with_healthcheck: bool) -> bool:
    """Return whether a signal ended the worker."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    worker = ProcessWorker(work_pool_name=pool, create_pool_if_not_found=False)
    working = asyncio.create_task(worker.start(with_healthcheck=with_healthcheck))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not working.done():
        await asyncio.to_thread(_end_runs)
        working.cancel()
    stopping.cancel()
    try:
        with suppress(asyncio.CancelledError):
            await working
    except Exception as exc:
        raise MnistBpError(f"the worker of pool {pool!r} has ended ({type(exc).__name__}): start it again") from exc
    return stop.is_set()


def _end_runs() -> None:
    """Terminate the processes of the runs, each of which then marks its run as Crashed, and wait for them.

    A run is a child in a separate process group, which no signal to this process reaches.
    """
    terminated, deadline = set[psutil.Process](), time.monotonic() + STOP_TIMEOUT_S
    # the worker may still start runs: the end of a night lets one start that waited
    while (runs := set(filter(_is_alive, psutil.Process().children()))) and time.monotonic() < deadline:
        for run in runs - terminated:
            with suppress(psutil.Error):
                run.terminate()
        terminated |= runs
        time.sleep(_POLL_INTERVAL_S)  # psutil.wait_procs() would take the exit codes that asyncio waits for


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
