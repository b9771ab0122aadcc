"""Processes that race: the same function in each of them, kept in step by a barrier.

def create(place: int, barrier: Barrier, address: str) -> bool:    # of a module that other processes can import
    store = open_store(address)
    barrier.wait(TIMEOUT_S)                                        # all start at the same moment
    return store.create("key", str(place).encode())

assert sum(run_race(create, str(directory))) == 1
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from typing import Any, Final, TypeVar

from tests.support.waiting import HANG_S

RACERS: Final = 16
TIMEOUT_S: Final = HANG_S
"""Seconds that a process waits for the others."""

Result = TypeVar("Result")


@cache
def _processes() -> ForkServerContext:
    """Return a context whose processes start at once: they are forked from one that has imported the slow modules."""
    context = multiprocessing.get_context("forkserver")
    # not tests.*: the process that forks is started in the directory of a test, and cannot import them
    context.set_forkserver_preload(["mnist_bp.registry.promotion", "mnist_bp.storage.s3", "pytest"])
    return context


def run_race(racer: Callable[..., Result], *args: Any, racers: int = RACERS) -> list[Result]:
    """Call a function in many processes at the same time.

    Args:
        racer: Function of a racer's place, from 0, and the barrier of all racers, followed by `args`.
        args: Further arguments, the same for all racers.
        racers: Number of processes.

    Returns:
        What each racer returned, by place.

    Raises:
        Exception: A racer raised it; the others stop at the barrier.
    """
    context = _processes()
    barrier, results = context.Barrier(racers), context.Queue()
    shared = (racer, barrier, results, _environment(), args)
    started = [context.Process(target=_take_part, args=(place, *shared)) for place in range(racers)]
    for process in started:
        process.start()
    try:
        found = dict(results.get(timeout=TIMEOUT_S) for _ in started)
    finally:
        for process in started:
            process.join(10)
            process.kill()
    errors = [each for each in found.values() if isinstance(each, BaseException)]
    for error in sorted(errors, key=lambda each: isinstance(each, BrokenBarrierError)):
        raise error
    return [found[place] for place in range(racers)]


def exit_code_of(function: Callable[..., object], *args: Any) -> int | None:
    """Call a function in another process; return its exit code, negative if a signal killed it."""
    process = _processes().Process(target=_call, args=(function, _environment(), args))
    process.start()
    process.join(TIMEOUT_S)
    return process.exitcode


def _environment() -> dict[str, str]:
    """Return what the processes need to reach a store: they inherit the environment of an earlier test."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def _call(function: Callable[..., object], environment: Mapping[str, str], args: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    function(*args)


def _take_part(
    place: int,
    racer: Callable[..., Any],
    barrier: Barrier,
    results: Queue[tuple[int, Any]],
    environment: Mapping[str, str],
    args: tuple[Any, ...],
) -> None:
    os.environ.update(environment)
    try:
        results.put((place, racer(place, barrier, *args)))
    except Exception as exc:
        barrier.abort()
        results.put((place, exc))
