"""Processes that race to swap one file, each round at the same moment.

    python -m tests.support.race ADDRESS ROUNDS

Prints for each round who won, and what is there after it.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from threading import Barrier
from typing import Final

from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import SwapOutcome

RACERS: Final = 16
PATIENCE: Final = 30
"""Seconds that a racer waits for the others; so none outlives one that died."""

KEY: Final = "champion/mnist.json"


def race(address: str, racer: int, rounds: int, barrier: Barrier) -> list[SwapOutcome]:
    """Take part in every round."""
    store, outcomes = open_store(address), []
    for number in range(rounds):
        there = store.read(KEY)
        barrier.wait(PATIENCE)
        outcomes.append(store.compare_and_swap(KEY, f"{number} {racer}".encode(), there.version if there else None))
        barrier.wait(PATIENCE)
        if racer == 0:
            found = store.read(KEY)
            assert found is not None
            history.append(found.content.decode())
    return outcomes


def _take_part(address: str, racer: int, rounds: int, barrier: Barrier, results: multiprocessing.Queue[object]) -> None:
    outcomes = race(address, racer, rounds, barrier)
    results.put((racer, outcomes, history))


history: list[str] = []

if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    barrier, results = fork.Barrier(RACERS), fork.Queue()
    address, rounds = sys.argv[1], int(sys.argv[2])
    racers = [
        fork.Process(target=_take_part, args=(address, racer, rounds, barrier, results), daemon=True)
        for racer in range(RACERS)
    ]
    for process in racers:
        process.start()
    found = sorted(results.get(timeout=3 * PATIENCE) for _ in racers)
    for process in racers:
        process.join()
    print(json.dumps({"outcomes": [outcomes for _, outcomes, _ in found], "history": found[0][2]}))
