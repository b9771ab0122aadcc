"""Processes that train in turn, each in its own way, while the others wait."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from bench.peers import Peer
from bench.processes import Worker, WorkerError
from mnist_bp.data.parquet import load_split
from mnist_bp.data.sample import encode_idx
from mnist_bp.model.parameters import CLASSES
from mnist_bp.results import CachedDataset

TASK: Final = {"seed": 1, "hidden": 30, "classes": CLASSES, "batch_size": 10, "learning_rate": 0.5}

OURS: Final = ("cpu", "reference")
"""Ratios are taken to the first of these that runs."""

Progress = Callable[[str], None]


@dataclass
class Runner:
    """A way, its process, and what was measured of it."""

    peer: Peer
    worker: Worker
    row: dict[str, Any]


class Field:
    """Those who run; a context manager that ends their processes.

    Args:
        data: What they train on.
        steps: Most steps at once.
        say: Told what is going on.
    """

    def __init__(self, data: CachedDataset, steps: int, say: Progress) -> None:
        self._stack, self._say = ExitStack(), say
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.runners: list[Runner] = []
        self.skipped: list[dict[str, str]] = []
        write_task(self._directory, data, steps)

    def enter(self, peer: Peer, whole: int) -> None:
        """Start a way and let it train once as a whole, or note why it cannot."""
        absent = [library for library in peer.needs if find_spec(library) is None]
        if absent:
            return self._skip(peer, f"{', '.join(absent)} is not installed")
        self._say(f"{peer.title}: one training of {whole:,} steps")
        try:
            worker = self._stack.enter_context(Worker(peer.name, self._directory))
            answer = worker.ask({"steps": whole, "accuracy": True})
        except WorkerError as error:
            return self._skip(peer, str(error))
        row = {
            "name": peer.name, "title": peer.title, "note": peer.note,
            "seconds": [], "cpu_seconds": [], "ours_us_per_step": [],
            "whole_seconds": answer["seconds"], "accuracy": answer["accuracy"],
        }  # fmt: skip
        return self.runners.append(Runner(peer, worker, row))

    def ours(self) -> Runner | None:
        """Find our fastest engine that is running: what ratios are taken to."""
        return next((runner for name in OURS for runner in self.runners if runner.peer.name == name), None)

    def take_turns(self, number: int, runs: int, steps: int, ours: Runner | None) -> None:
        """Let each train for a while, one after the other, ours between any two; round 0 is not counted."""
        self._say(f"round {number} of {runs}" if number else "warming up")
        counted = number > 0
        before = self._turn(ours, steps, counted)
        for runner in [runner for runner in self.runners if runner is not ours]:
            own = self._turn(runner, steps, counted)
            after = self._turn(ours, steps, counted)
            if counted and own and before and after:
                runner.row["ours_us_per_step"].append((before + after) / 2)
            before = after

    def _turn(self, runner: Runner | None, steps: int, counted: bool) -> float | None:
        """Let one train; microseconds per step, or None if it is gone."""
        if runner not in self.runners:
            return None
        assert runner is not None
        row = runner.row
        row["steps_per_round"] = max(1, steps // runner.peer.fewer)
        try:
            answer = runner.worker.ask({"steps": row["steps_per_round"]})
        except WorkerError as error:
            self.runners.remove(runner)
            self._skip(runner.peer, str(error))
            return None
        row["peak_memory_mb"] = round(answer["peak_memory_mb"], 1)
        if counted:
            row["seconds"].append(answer["seconds"])
            row["cpu_seconds"].append(answer["cpu_seconds"])
        return float(answer["seconds"] / row["steps_per_round"] * 1e6)

    def _skip(self, peer: Peer, reason: str) -> None:
        self.skipped.append({"name": peer.name, "title": peer.title, "reason": reason})
        self._say(f"{peer.title}: skipped: {reason}")

    def __enter__(self) -> Field:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()


def write_task(directory: Path, data: CachedDataset, steps: int) -> None:
    """Write what the workers read: the data as torchvision lays it out, and what to do with it.

    Args:
        directory: Where.
        data: The dataset.
        steps: Most steps that a worker will be asked for.
    """
    raw = directory / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file, prefix in ((data.train, "train"), (data.test, "t10k")):
        images, labels = load_split(file)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(encode_idx(images.reshape(-1, 28, 28)))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(encode_idx(labels))
    (directory / "task.json").write_text(json.dumps({**TASK, "steps": steps}))
