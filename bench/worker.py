"""A separate process that trains with one implementation for as long as the measurement lasts: both ends of its pipes.

    python -m bench.worker NAME DIRECTORY

DIRECTORY holds the data and `task.json`; see `bench.steps.write_task`. The process answers each line of JSON on stdin
with a line on stdout, and ends when stdin is closed. It imports, prepares the data and trains once before it reports
that it is ready, so that neither start-up nor compilation is ever timed.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TextIO

import numpy as np

from bench.machine import one_thread, peak_memory_mb
from bench.peers import PEERS, NotAvailableError, Task
from bench.processes import REPOSITORY
from mnist_bp.engines.interface import Batches
from mnist_bp.errors import MnistBpError
from mnist_bp.model.parameters import WIDTH, Model, UInt8Array, initial_parameters
from mnist_bp.model.recipe import Activation, recipe_of
from mnist_bp.training.loop import ExampleOrder
from mnist_bp.training.shifts import Shifts

WARM_UP_STEPS: Final = 500

FIRST_SEED: Final = 1

ANSWER_TIMEOUT_S: Final = 900.0
"""Seconds after which a process that does not answer is killed; the slowest training takes 20 on two cores."""

_PREDICT_ROWS: Final = 1_000


class WorkerError(MnistBpError):
    """A worker ended, or cannot run on this machine."""


class Worker:
    """The parent's end; a context manager that ends the process.

    Args:
        name: Which implementation, of `bench.peers.PEERS`.
        directory: See `bench.steps.write_task`.

    Raises:
        WorkerError: The process did not get ready.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self._stderr = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", name, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            cwd=REPOSITORY,
            env=one_thread(),
        )
        try:
            first = self._answer()
            if "unavailable" in first:
                raise WorkerError(first["unavailable"])
        except BaseException:
            self.close()
            raise

    def train(self, steps: int, *, accuracy: bool = False, seed: int = FIRST_SEED) -> dict[str, float]:
        """Train for some steps, and wait.

        Args:
            steps: At most `max_steps` of the task.
            accuracy: Whether to evaluate the model.
            seed: Decides its initial weights, the order of the examples and their shifts.

        Returns:
            `seconds`, `peak_memory_mb` and, if asked for, `accuracy` on the test images.

        Raises:
            WorkerError: The process ended without an answer.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"steps": steps, "accuracy": accuracy, "seed": seed}) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it ended already; its stderr says why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        timer = threading.Timer(ANSWER_TIMEOUT_S, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise WorkerError(self._exit_reason())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _exit_reason(self) -> str:
        code = self.process.wait()
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr if line.strip()]
        ended = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        return f"its process ended, {ended}" + (f": {lines[-1]}" if lines else "")

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self._stderr.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def main() -> None:
    """Run the child's end: train on request until stdin is closed."""
    name, directory = sys.argv[1], Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints goes to stderr, not between the answers
    about = json.loads((directory / "task.json").read_text())
    task = Task(directory, recipe_of(about), about["classes"])
    shifts = Shifts(task.images, WIDTH, task.recipe.shift) if task.recipe.shift else None

    @lru_cache(maxsize=1)
    def start_of(seed: int) -> tuple[Model, Batches]:
        order = ExampleOrder(seed, len(task.labels), about["batch_size"], task.recipe, shifts)
        sizes = task.images.shape[1], about["hidden"], about["classes"]
        return initial_parameters(seed, *sizes, task.recipe.gain), order.batches(0, about["max_steps"])

    try:
        trainer = PEERS[name].load(task)
    except NotAvailableError as error:
        return _send(answers, {"unavailable": str(error)})
    start, order = start_of(FIRST_SEED)
    trainer.advance(start, first_of(order, WARM_UP_STEPS))
    _send(answers, {"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        start, order = start_of(command["seed"])
        batches = first_of(order, command["steps"])
        release_memory()
        started = time.perf_counter()
        model = trainer.advance(start, batches)
        answer = {"seconds": time.perf_counter() - started, "peak_memory_mb": peak_memory_mb()}
        _send(
            answers,
            {**answer, "accuracy": accuracy(model, *task.test, task.recipe.activation)}
            if command["accuracy"]
            else answer,
        )
    return None


def first_of(order: Batches, steps: int) -> Batches:
    """Return the batches of the first steps."""
    return Batches(order.rows[:steps], order.offsets[:steps], order.rates[:steps])


def _send(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def release_memory() -> None:
    """Return freed memory to the system, so that an implementation pays for its memory in every round as in the first.

    The C library keeps it otherwise: the lab's graph then grows into memory that the process already has (measured: 0.9
    instead of 1.5 ms per step). Libraries other than glibc have no such call, and nothing is done.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def accuracy(model: Model, images: UInt8Array, labels: UInt8Array, activation: Activation) -> float:
    """Compute the accuracy of any implementation's model in the same way: plain NumPy, pixels in [0, 1].

    Args:
        model: The network.
        images: Shape (N, D).
        labels: Shape (N,).
        activation: Activation of the hidden units.

    Returns:
        Share of the images that are classified correctly, in [0, 1].
    """
    W1, b1, W2, b2 = model
    hits = 0
    for first in range(0, len(images), _PREDICT_ROWS):
        x = images[first : first + _PREDICT_ROWS] / np.float32(255)
        z1 = x @ W1 + b1
        a1 = z1.clip(min=0) if activation == "relu" else (np.tanh(z1 / 2) + 1) / 2
        z2 = a1 @ W2 + b2  # largest where a2 is largest, for sigmoid and softmax alike
        hits += int((z2.argmax(1) == labels[first : first + _PREDICT_ROWS]).sum())
    return hits / len(images)


if __name__ == "__main__":
    main()
