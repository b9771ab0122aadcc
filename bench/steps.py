"""Training speed of our engines and of every other way to train the same network, measured in turn.

Each way lives in a process of its own, on one thread. First each trains once for `WHOLE` steps, from which come its
accuracy and the seconds of a whole training; then they take turns, round after round, while the others wait, so that
whatever else the machine does meets them all. A ratio is taken within a round; its median is what is reported.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from bench.machine import header
from bench.peers import PEERS, Peer
from bench.processes import Worker, WorkerError
from bench.steps_report import plot, table
from mnist_bp.config import data_dir_from_environment
from mnist_bp.datasets import CLASSES
from mnist_bp.download import fetch
from mnist_bp.errors import ConfigError
from mnist_bp.preprocess import load_split, preprocess_dataset
from mnist_bp.records import CachedDataset
from mnist_bp.sample import encode_idx

__all__ = ["WHOLE", "measure", "plot", "table"]

WHOLE: Final = 10_000
"""Steps of a whole training: the lab's."""

TASK: Final = {"seed": 1, "hidden": 30, "classes": CLASSES, "batch_size": 10, "learning_rate": 0.5}

Progress = Callable[[str], None]


def measure(
    runs: int,
    steps: int,
    names: Sequence[str] | None = None,
    on_progress: Progress | None = None,
    *,
    data: CachedDataset | None = None,
    whole: int = WHOLE,
) -> dict[str, Any]:
    """Measure every way that runs here.

    Args:
        runs: Counted rounds; one more comes before them.
        steps: Steps of a fast way in a round; slow ones take a fraction, see `Peer.fewer`.
        names: Which ways, of `PEERS`; None for all.
        on_progress: Told in one line what is going on.
        data: What to train on; None for MNIST, or the bundled sample where it cannot be had.
        whole: Steps of the whole training.

    Returns:
        JSON-ready: the machine, the task, one entry for each way under `ways` with its raw seconds, and under
        `skipped` why others are not there.

    Raises:
        ConfigError: A name is unknown, or a number is below 1.
    """
    peers = known(names)
    if min(runs, steps, whole) < 1:
        raise ConfigError(f"bench: {runs} rounds of {steps} steps: expected at least 1 of each")
    machine = header()
    data = data or _mnist()
    with Field(data, max(steps, whole), on_progress or (lambda _: None)) as field:
        for peer in peers:
            field.enter(peer, whole)
        for number in range(runs + 1):
            field.take_turns(number, runs, steps)
    return {
        "bench": "steps",
        "machine": machine,
        "dataset": data.name,
        "task": {**TASK, "bias_gradient": "mean", "threads": 1},
        "runs": runs,
        "steps": steps,
        "whole_steps": whole,
        **summarize([row for _, _, row in field.runners]),
        "skipped": field.skipped,
    }


class Field:
    """Those who run, each with its process and what was measured of it; a context manager that ends the processes.

    Args:
        data: What they train on.
        steps: Most steps at once.
        say: Told what is going on.
    """

    def __init__(self, data: CachedDataset, steps: int, say: Progress) -> None:
        self._stack, self._say = ExitStack(), say
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.runners: list[tuple[Peer, Worker, dict[str, Any]]] = []
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
            "name": peer.name,
            "title": peer.title,
            "note": peer.note,
            "seconds": [],
            "cpu_seconds": [],
            "whole_seconds": answer["seconds"],
            "accuracy": answer["accuracy"],
        }
        return self.runners.append((peer, worker, row))

    def take_turns(self, number: int, runs: int, steps: int) -> None:
        """Let each train for a while, one after the other; round 0 is not counted."""
        self._say(f"round {number} of {runs}" if number else "warming up")
        for runner in list(self.runners):
            peer, worker, row = runner
            row["steps_per_round"] = max(1, steps // peer.fewer)
            try:
                answer = worker.ask({"steps": row["steps_per_round"]})
            except WorkerError as error:
                self.runners.remove(runner)
                self._skip(peer, str(error))
                continue
            row["peak_memory_mb"] = round(answer["peak_memory_mb"], 1)
            if number:
                row["seconds"].append(answer["seconds"])
                row["cpu_seconds"].append(answer["cpu_seconds"])

    def _skip(self, peer: Peer, reason: str) -> None:
        self.skipped.append({"name": peer.name, "title": peer.title, "reason": reason})
        self._say(f"{peer.title}: skipped: {reason}")

    def __enter__(self) -> Field:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Add to each way its microseconds per step, and its ratio to our fastest engine that was measured.

    Args:
        rows: One for each way, with `seconds` and `cpu_seconds` of every round, and `steps_per_round`.

    Returns:
        `ratio_to`, the name of what ratios are taken to, and `ways`.
    """
    ours = next((row for name in ("cpu", "reference") for row in rows if row["name"] == name), None)
    base = _us_per_step(ours) if ours else []
    for row in rows:
        us = _us_per_step(row)
        row["us_per_step"] = {"median": statistics.median(us), "min": min(us), "max": max(us)}
        row["ratio"] = statistics.median(own / our for own, our in zip(us, base, strict=True)) if base else None
        shares = [cpu / wall for cpu, wall in zip(row["cpu_seconds"], row["seconds"], strict=True)]
        row["cores_used"] = statistics.median(shares)
    return {"ratio_to": ours["name"] if ours else None, "ways": rows}


def _us_per_step(row: dict[str, Any]) -> list[float]:
    return [seconds / row["steps_per_round"] * 1e6 for seconds in row["seconds"]]


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


def known(names: Sequence[str] | None) -> list[Peer]:
    """Find ways by name, all of them for None.

    Raises:
        ConfigError: There is none of that name.
    """
    for name in names or ():
        if name not in PEERS:
            raise ConfigError(f"bench: there is no way named {name!r}; expected some of {', '.join(PEERS)}")
    return [PEERS[name] for name in dict.fromkeys(names or PEERS)]


def _mnist() -> CachedDataset:
    data_dir = Path(data_dir_from_environment())
    return preprocess_dataset(fetch("auto", data_dir, last_attempt=True), data_dir)
