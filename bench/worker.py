"""One way to train, in a process of its own that lives as long as the measurement.

    python -m bench.worker NAME DIRECTORY

DIRECTORY holds `task.json` and the data; see `bench.turns`, which starts it. It answers every line of JSON on stdin
with one on stdout, and ends with its stdin. Importing, preparing the data and a first call are over before it says that
it is ready, so neither start-up nor compilation is ever timed.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from bench.machine import peak_memory_mb
from bench.peers import PEERS, NotAvailableError, Task
from mnist_bp.model.parameters import Model, UInt8Array, initial_parameters
from mnist_bp.training.loop import ExampleOrder

WARM_UP: Final = 500
"""Steps of the first call."""

_PREDICT_ROWS: Final = 1_000


def main() -> None:
    """Serve one way until stdin ends."""
    name, directory = sys.argv[1], Path(sys.argv[2])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints goes to stderr, not among the replies
    about = json.loads((directory / "task.json").read_text())
    task = Task(directory, about["learning_rate"], about["classes"])
    order = ExampleOrder(about["seed"], len(task.labels), about["batch_size"]).batches(0, about["steps"])
    start = initial_parameters(about["seed"], task.images.shape[1], about["hidden"], about["classes"])
    try:
        trainer = PEERS[name].load(task)
    except NotAvailableError as error:
        return reply(replies, {"absent": str(error)})
    trainer.advance(start, order[:WARM_UP])
    reply(replies, {"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        batches = order[: command["steps"]]
        release_memory()
        started, cpu_started = time.perf_counter(), time.process_time()
        model = trainer.advance(start, batches)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        answer = {"seconds": seconds, "cpu_seconds": cpu_seconds}
        if command.get("accuracy"):
            answer["accuracy"] = accuracy(model, *task.test)
        reply(replies, {**answer, "peak_memory_mb": peak_memory_mb()})
    return None


def release_memory() -> None:
    """Give what was freed back to the system, so that a way pays for its memory in every round as in the first.

    The C library keeps it otherwise: the lab's graph then grows into memory that is there already (measured: 0.9
    instead of 1.5 ms a step). Libraries other than glibc have no such call, and nothing is done.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def reply(replies: TextIO, answer: dict[str, Any]) -> None:
    """Send one line."""
    replies.write(json.dumps(answer) + "\n")
    replies.flush()


def accuracy(model: Model, images: UInt8Array, labels: UInt8Array) -> float:
    """Count what a model classifies correctly, by one judge for all: plain NumPy, pixels in [0, 1].

    Args:
        model: The network.
        images: Shape (N, D).
        labels: Shape (N,).

    Returns:
        Share of the images, in [0, 1].
    """
    W1, b1, W2, b2 = model
    hits = 0
    for first in range(0, len(images), _PREDICT_ROWS):
        x = images[first : first + _PREDICT_ROWS] / np.float32(255)
        a1 = (np.tanh((x @ W1 + b1) / 2) + 1) / 2
        z2 = a1 @ W2 + b2  # as large where a2 is, whichever function makes a2 of it
        hits += int((z2.argmax(1) == labels[first : first + _PREDICT_ROWS]).sum())
    return hits / len(images)


if __name__ == "__main__":
    main()
