"""Runs that are published without having been trained, an examiner who knows how good each is, and processes that
promote them, race, and die.

A run's model is one number: how many of the 1,000 test images it has right, from the first one on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any, Final

import numpy as np

from mnist_bp.documents import PromotionRecord
from mnist_bp.layout import RUNS
from mnist_bp.registry.comparison import MODEL, PublishedModel, read_published_model
from mnist_bp.registry.gate import Classes, GateSettings
from mnist_bp.registry.promotion import promote
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store, SwapOutcome
from tests.support import published_runs

LABELS: Final = np.arange(1_000) % 10
RULE: Final = GateSettings(class_floor=0)
KEY: Final = "the-key-of-today"
RACERS: Final = 16
PATIENCE: Final = 60
"""Seconds that a process waits for the others."""


def publish(store: Store, run_id: str, right: int, dataset: str = "mnist", key: str = KEY) -> PublishedModel:
    """Publish a run whose model has so many images right: its files first, its manifest last."""
    contents = {MODEL: str(right).encode(), "history.parquet": f"the history of {run_id}".encode()}
    published_runs.publish(store, run_id, dataset, contents=contents, changes={"dataset": {"key": key}})
    return read_published_model(store, run_id)


class Oracle:
    """An examiner who reads a run's model and classifies as it would."""

    key, labels = KEY, LABELS

    def __init__(self, store: Store) -> None:
        self._store = store

    def predict(self, contestant: PublishedModel) -> Classes:
        content = self._store.get(f"{RUNS}{contestant.run_id}/{MODEL}", contestant.manifest.files[MODEL].sha256)
        return np.where(np.arange(len(LABELS)) < int(content), LABELS, (LABELS + 1) % 10)


def challenge(store: Store, contestant: PublishedModel, *, allow_unsafe: bool = True) -> PromotionRecord:
    """Let a run challenge the champion, by default on any store."""
    return promote(store, contestant, Oracle(store), RULE, allow_unsafe=allow_unsafe)


class Interfering:
    """A store that has something else done before or after one of the calls made to it.

    Args:
        store: The real one.
        at: Which call, from 1.
        what: Is done instead of returning or, with `before`, ahead of the call.
        before: Whether it comes before the call.
    """

    def __init__(self, store: Store, at: int, what: Callable[[], object], *, before: bool = False) -> None:
        self._store, self._at, self._what, self._before = store, at, what, before
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name == "uri":
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            here = len(self.calls) == self._at
            if here and self._before:
                self._what()
            result = method(*args, **kwargs)
            if here and not self._before:
                self._what()
            return result

        return call


class Unanswered:
    """A store whose first replies to a swap are lost.

    Args:
        store: The real one.
        made: For each of these swaps, whether it is made all the same.
        meanwhile: Done once, after the first swap and before its outcome is read.
    """

    def __init__(self, store: Store, *made: bool, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._store, self._made, self._meanwhile = store, list(made), meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def compare_and_swap(self, key: str, content: bytes, expected: str | None) -> SwapOutcome:
        if not self._made:
            return self._store.compare_and_swap(key, content, expected)
        if self._made.pop(0):
            self._store.compare_and_swap(key, content, expected)
        meanwhile, self._meanwhile = self._meanwhile, lambda: None
        meanwhile()
        return "unknown"


# ---------------------------------------------------------------------------------------------------------------------
# processes


@cache
def processes() -> ForkServerContext:
    """Processes that start at once: what they need was imported by the one that they are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.contests", "scipy.special"])
    return context


def promote_and_die(address: str, environment: Mapping[str, str], run_id: str, at: int, before: bool) -> None:
    """Promote a run, in a process that is killed by the operating system at one of its calls to the store."""
    os.environ.update(environment)
    store = open_store(address)
    store.supports_conditional_writes()
    contestant = read_published_model(store, run_id)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    store_of_the_dying: Any = Interfering(store, at, die, before=before)
    promote(store_of_the_dying, contestant, Oracle(store), RULE)


class _Starter(Oracle):
    """An examiner who lets no one go on before all of a round have read the pointer."""

    def __init__(self, store: Store, challenger: str, barrier: Barrier) -> None:
        super().__init__(store)
        self._challenger, self._barrier = challenger, barrier

    def predict(self, contestant: PublishedModel) -> Classes:
        if contestant.run_id == self._challenger:
            self._challenger = ""
            self._barrier.wait(PATIENCE)
        return super().predict(contestant)


def race(
    address: str,
    environment: Mapping[str, str],
    place: int,
    levels: list[list[int]],
    barrier: Barrier,
    results: Queue[tuple[int, list[PromotionRecord]]],
) -> None:
    """Promote one run in each round, at the same moment as all the others.

    Args:
        address: Of the store.
        environment: What it needs.
        place: Which of the racers this is.
        levels: For each round and place, how many images that run has right.
        barrier: For all the racers.
        results: Gets the place and all its promotions.
    """
    os.environ.update(environment)
    store = open_store(address)
    promotions = []
    for number, rights in enumerate(levels):
        contestant = publish(store, race_run(number, place), rights[place])
        examiner = _Starter(store, contestant.run_id, barrier)
        promotions.append(promote(store, contestant, examiner, RULE))
        barrier.wait(PATIENCE)  # a round is over when all are told
    results.put((place, promotions))


def race_run(number: int, place: int) -> str:
    """Name the run of a racer in a round."""
    return f"20261123T{number:06d}Z-{place:08x}"


def run_race(address: str, environment: Mapping[str, str], levels: list[list[int]]) -> list[list[PromotionRecord]]:
    """Run a race of real processes; see `race`.

    Returns:
        The promotions of each round, one for each racer.
    """
    racers, context = len(levels[0]), processes()
    barrier, results = context.Barrier(racers), context.Queue()
    arguments = [(address, dict(environment), place, levels, barrier, results) for place in range(racers)]
    started = [context.Process(target=race, args=each) for each in arguments]
    for each in started:
        each.start()
    try:
        found = [results.get(timeout=2 * PATIENCE) for _ in started]
    finally:
        for each in started:
            each.join(10)
            each.kill()
    return [
        list(promotions)
        for promotions in zip(*(each for _, each in sorted(found, key=lambda each: each[0])), strict=True)
    ]
