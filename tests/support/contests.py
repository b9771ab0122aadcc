"""Runs that are published without having been trained, an examiner who knows how good each is, and processes that
promote them, race, and die.

A run's model is one number: how many of the 1,000 test images it has right, from the first one on.
"""

from __future__ import annotations

import os
import signal
from multiprocessing.synchronize import Barrier
from typing import Final

import numpy as np

from mnist_bp.documents import PromotionRecord
from mnist_bp.layout import RUNS
from mnist_bp.registry.comparison import MODEL, PublishedModel, read_published_model
from mnist_bp.registry.gate import Classes, GateSettings
from mnist_bp.registry.promotion import promote
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from tests.support import published_runs
from tests.support.faulty_store import FaultyStore
from tests.support.race import TIMEOUT_S, run_race

LABELS: Final = np.arange(1_000) % 10
RULE: Final = GateSettings(class_floor=0)
KEY: Final = "the-key-of-today"


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


# ---------------------------------------------------------------------------------------------------------------------
# processes


def promote_and_die(address: str, run_id: str, call: int, before: bool) -> None:
    """Promote a run in a process that the operating system kills at one of its calls to the store.

    Args:
        address: Address of the store.
        run_id: Run to promote.
        call: Number of the call, from 0.
        before: Whether the process is killed before the call or after it.
    """
    store = open_store(address)
    store.supports_conditional_writes()
    contestant = read_published_model(store, run_id)
    die = {call: lambda: os.kill(os.getpid(), signal.SIGKILL)}
    killed = FaultyStore(store, before=die) if before else FaultyStore(store, after=die)
    promote(killed, contestant, Oracle(store), RULE)


class _Starter(Oracle):
    """A predictor that waits until all racers of a round have read the pointer."""

    def __init__(self, store: Store, challenger: str, barrier: Barrier) -> None:
        super().__init__(store)
        self._challenger, self._barrier = challenger, barrier

    def predict(self, contestant: PublishedModel) -> Classes:
        if contestant.run_id == self._challenger:
            self._challenger = ""
            self._barrier.wait(TIMEOUT_S)
        return super().predict(contestant)


def promote_in_rounds(place: int, barrier: Barrier, address: str, levels: list[list[int]]) -> list[PromotionRecord]:
    """Promote one run in each round, at the same moment as all other racers; see `run_race`.

    Args:
        place: Place among the racers.
        barrier: Barrier of all racers.
        address: Address of the store.
        levels: For each round and place, the number of images that the run has right.
    """
    store = open_store(address)
    promotions = []
    for number, rights in enumerate(levels):
        contestant = publish(store, run_id_of_racer(number, place), rights[place])
        examiner = _Starter(store, contestant.run_id, barrier)
        promotions.append(promote(store, contestant, examiner, RULE))
        barrier.wait(TIMEOUT_S)  # a round ends when all have their result
    return promotions


def run_id_of_racer(number: int, place: int) -> str:
    """Return the id of a racer's run in a round."""
    return f"20261123T{number:06d}Z-{place:08x}"


def race_promotions(address: str, levels: list[list[int]]) -> list[list[PromotionRecord]]:
    """Run a race of promotions; return the promotions of each round, one for each racer."""
    by_place = run_race(promote_in_rounds, address, levels, racers=len(levels[0]))
    return [list(promotions) for promotions in zip(*by_place, strict=True)]
