"""Training speed of our engines and of other implementations of the same network, measured in turn.

Each implementation runs in a separate process, on one thread. First each trains once for `WHOLE` steps, which gives its
accuracy and the seconds of a whole training; then they take turns, round after round, while the others wait. Our own
engine comes between any two of them, so that whatever else the machine does affects both sides of a ratio: each turn is
compared with our turns just before and just after it, and the median over the rounds is reported.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench.data import default_dataset
from bench.machine import header
from bench.peers import PEERS, Peer
from bench.rounds import Log, rounds, silent
from bench.worker import FIRST_SEED, Worker, WorkerError
from mnist_bp.data.parquet import load_split
from mnist_bp.data.sample import encode_idx
from mnist_bp.errors import ConfigError
from mnist_bp.model.parameters import CLASSES
from mnist_bp.presets import PRESETS
from mnist_bp.results.dataset import CachedDataset

TASK: Final = {"classes": CLASSES, **PRESETS["lab-8-4"].training_record}

WHOLE: Final = 10_000
"""Steps of a whole training: the lab's."""

OURS: Final = ("cpu", "reference")
"""Ratios are relative to the first of these that is measured."""


class Runner:
    """An implementation in its process, and what was measured of it.

    Args:
        peer: The implementation.
        directory: See `write_task`.
        stack: Ends the process.

    Raises:
        WorkerError: It cannot run on this machine.
    """

    def __init__(self, peer: Peer, directory: Path, stack: ExitStack) -> None:
        self.peer = peer
        self.worker = stack.enter_context(Worker(peer.name, directory))
        self.row: dict[str, Any] = {
            "name": peer.name, "title": peer.title, "note": peer.note, "seconds": [], "ours_us_per_step": []
        }  # fmt: skip

    def train_whole(self, steps: int) -> None:
        """Train once from start to end; not part of the rounds."""
        answer = self.worker.train(steps, accuracy=True)
        self.row.update(whole_seconds=answer["seconds"], accuracy=answer["accuracy"])

    def take_turn(self, steps: int, counts: bool) -> float:
        """Train for one round's share of steps, and return the microseconds per step.

        Raises:
            WorkerError: The process ended.
        """
        self.row["steps_per_round"] = max(1, steps // self.peer.divisor)
        try:
            answer = self.worker.train(self.row["steps_per_round"])
        except WorkerError as exc:
            raise WorkerError(f"bench: {self.peer.title}: {exc}; leave it out with --only") from exc
        self.row["peak_memory_mb"] = round(answer["peak_memory_mb"], 1)
        if counts:
            self.row["seconds"].append(answer["seconds"])
        return float(answer["seconds"] / self.row["steps_per_round"] * 1e6)


def measure(
    runs: int,
    steps: int,
    names: Sequence[str] | None = None,
    log: Log = silent,
    *,
    data: CachedDataset | None = None,
    whole: int = WHOLE,
) -> dict[str, Any]:
    """Measure every implementation that runs on this machine.

    Args:
        runs: Counted rounds; one warm-up round comes before them.
        steps: Steps of a fast implementation in a round; slow ones take a fraction, see `Peer.divisor`.
        names: Implementations to measure, of `PEERS`; None for all.
        log: Called with a line for each whole training and each round.
        data: Dataset to train on; None for MNIST, or for the bundled sample if MNIST cannot be downloaded.
        whole: Steps of the whole training.

    Returns:
        JSON-ready: the machine, the task, one entry for each implementation under `rows` with its raw seconds, and
        under `skipped` the reason why each of the others could not run.

    Raises:
        ConfigError: A name is unknown, or a number is below 1.
        WorkerError: An implementation ended during the rounds.
    """
    peers = find_peers(names)
    if min(runs, steps, whole) < 1:
        raise ConfigError(f"bench: {runs} rounds of {steps} steps: expected at least 1 of each")
    machine, data = header(), data or default_dataset()
    runners: list[Runner] = []
    skipped: list[dict[str, str]] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_task(directory, data, TASK, max(steps, whole))
        for peer in peers:
            log(f"{peer.title}: one training of {whole:,} steps")
            try:
                runner = Runner(peer, directory, stack)
                runner.train_whole(whole)
            except WorkerError as error:
                skipped.append({"name": peer.name, "title": peer.title, "reason": str(error)})
                log(f"{peer.title}: skipped: {error}")
            else:
                runners.append(runner)
        ours = next((runner for name in OURS for runner in runners if runner.peer.name == name), None)
        for counts in rounds("steps", runs, log):
            _take_turns(runners, ours, steps, counts)
    ratio_to = ours.peer.name if ours else None
    return {
        "bench": "steps",
        "machine": machine,
        "dataset": data.name,
        "task": {**TASK, "seed": FIRST_SEED, "threads": 1},
        "runs": runs,
        "steps": steps,
        "whole_steps": whole,
        "ratio_to": ratio_to,
        "rows": summarize([runner.row for runner in runners], ratio_to),
        "skipped": skipped,
    }


def _take_turns(runners: Sequence[Runner], ours: Runner | None, steps: int, counts: bool) -> None:
    """Let each implementation train for a while, one after the other, ours between any two of them."""
    before = ours.take_turn(steps, counts) if ours else 0.0
    for runner in runners:
        if runner is ours:
            continue
        runner.take_turn(steps, counts)
        if ours:
            after = ours.take_turn(steps, counts)
            if counts:
                runner.row["ours_us_per_step"].append((before + after) / 2)
            before = after


def summarize(rows: list[dict[str, Any]], ratio_to: str | None) -> list[dict[str, Any]]:
    """Add to each row its microseconds per step and its ratio to ours.

    Args:
        rows: One for each implementation: `seconds` of every turn, the `steps_per_round` of each, and the average of
            our turns just before and just after each, `ours_us_per_step`.
        ratio_to: Name of the implementation that ratios are relative to, or None.

    Returns:
        The rows.
    """
    for row in rows:
        us = [seconds / row["steps_per_round"] * 1e6 for seconds in row["seconds"]]
        row["us_per_step"] = {"median": statistics.median(us), "min": min(us), "max": max(us)}
        ours = us if row["name"] == ratio_to else row["ours_us_per_step"]
        row["ratio"] = statistics.median(own / our for own, our in zip(us, ours, strict=True)) if ratio_to else None
    return rows


def find_peers(names: Sequence[str] | None) -> list[Peer]:
    """Return implementations by name, all of them for None.

    Raises:
        ConfigError: A name is unknown.
    """
    for name in names or ():
        if name not in PEERS:
            raise ConfigError(f"bench: unknown implementation {name!r}; expected some of {', '.join(PEERS)}")
    return [PEERS[name] for name in dict.fromkeys(names or PEERS)]


def write_task(directory: Path, data: CachedDataset, task: Mapping[str, Any], max_steps: int) -> None:
    """Write what the workers read: the images as torchvision lays them out, and the task.

    Args:
        directory: An empty directory.
        data: The dataset.
        task: Number of classes, and the settings that decide the weights.
        max_steps: Most steps that a worker is asked for at once.
    """
    raw = directory / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file, prefix in ((data.train, "train"), (data.test, "t10k")):
        images, labels = load_split(file)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(encode_idx(images.reshape(-1, 28, 28)))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(encode_idx(labels))
    (directory / "task.json").write_text(json.dumps({**task, "max_steps": max_steps}))
