"""Challenges between runs whose models are one number each, by processes that race or are killed.

The number is how many of the 1,000 test images the model classifies correctly: the first ones.
"""

from __future__ import annotations

import os
import signal
from multiprocessing.synchronize import Barrier
from typing import Final

import numpy as np

from mnist_bp.documents.champion import PromotionRecord
from mnist_bp.layout import MODEL, RUNS
from mnist_bp.registry.comparison import PublishedModel, read_published_model
from mnist_bp.registry.gate import Classes, GateSettings
from mnist_bp.registry.promotion import promote
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from tests.support.faulty_store import FaultyStore
from tests.support.published_runs import publish
from tests.support.race import TIMEOUT_S, run_race

LABELS: Final = np.arange(1_000) % 10
SETTINGS: Final = GateSettings(class_floor=0)
KEY: Final = "the-key-of-today"


def publish_model(store: Store, run_id: str, right: int, dataset: str = "mnist", key: str = KEY) -> PublishedModel:
    """Publish a run whose model classifies a number of images correctly."""
    contents = {MODEL: str(right).encode(), "history.parquet": f"the history of {run_id}".encode()}
    publish(store, run_id, dataset, contents=contents, changes={"dataset": {"key": key}})
    return read_published_model(store, run_id)


class NumberPredictor:
    """A predictor for models that are one number. Like the product's, it reads each model once."""

    key, labels = KEY, LABELS

    def __init__(self, store: Store) -> None:
        self._store = store
        self._predicted: dict[str, Classes] = {}

    def predict(self, model: PublishedModel) -> Classes:
        if model.run_id not in self._predicted:
            content = self._store.get(f"{RUNS}{model.run_id}/{MODEL}", model.manifest.files[MODEL].sha256)
            predicted = np.where(np.arange(len(LABELS)) < int(content), LABELS, (LABELS + 1) % 10)
            self._predicted[model.run_id] = predicted
        return self._predicted[model.run_id]


def challenge(store: Store, challenger: PublishedModel, *, allow_unsafe: bool = True) -> PromotionRecord:
    """Let a run challenge the champion, by default on any store."""
    return promote(store, challenger, NumberPredictor(store), SETTINGS, allow_unsafe=allow_unsafe)


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
    challenger = read_published_model(store, run_id)
    die = {call: lambda: os.kill(os.getpid(), signal.SIGKILL)}
    killed = FaultyStore(store, before=die) if before else FaultyStore(store, after=die)
    promote(killed, challenger, NumberPredictor(store), SETTINGS)


class _WaitingPredictor(NumberPredictor):
    """A predictor that waits until all racers of a round have read the champion's log."""

    def __init__(self, store: Store, challenger: str, barrier: Barrier) -> None:
        super().__init__(store)
        self._challenger, self._barrier = challenger, barrier

    def predict(self, model: PublishedModel) -> Classes:
        if model.run_id == self._challenger:
            self._challenger = ""
            self._barrier.wait(TIMEOUT_S)
        return super().predict(model)


def promote_in_rounds(place: int, barrier: Barrier, address: str, levels: list[list[int]]) -> list[PromotionRecord]:
    """Promote one run in each round, at the same moment as all other racers; see `run_race`.

    Args:
        place: Place among the racers.
        barrier: Barrier of all racers.
        address: Address of the store.
        levels: For each round and place, the number of images that the run classifies correctly.
    """
    store = open_store(address)
    promotions = []
    for number, rights in enumerate(levels):
        challenger = publish_model(store, run_id_of_racer(number, place), rights[place])
        predictor = _WaitingPredictor(store, challenger.run_id, barrier)
        promotions.append(promote(store, challenger, predictor, SETTINGS))
        barrier.wait(TIMEOUT_S)  # a round ends when all have their result
    return promotions


def run_id_of_racer(number: int, place: int) -> str:
    """Return the id of a racer's run in a round."""
    return f"20261123T{number:06d}Z-{place:08x}"


def race_promotions(address: str, levels: list[list[int]]) -> list[list[PromotionRecord]]:
    """Run a race of promotions; return the promotions of each round, one for each racer."""
    by_place = run_race(promote_in_rounds, address, levels, racers=len(levels[0]))
    return [list(promotions) for promotions in zip(*by_place, strict=True)]
