"""A preset's whole training by our engine and by torch's autograd, seed by seed: speed, and the accuracy of both.

The implementations take turns, each in a separate process on one thread: for every seed, each trains once from start to
end, with the same initial weights, order of the examples, shifts and learning rates.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from bench.data import default_dataset
from bench.machine import header
from bench.peers import PEERS
from bench.rounds import Log, check_rounds, empty_table, ratio, silent, spread
from bench.steps import find_peers, write_task
from bench.worker import Worker
from mnist_bp.errors import ConfigError
from mnist_bp.model.parameters import CLASSES
from mnist_bp.presets import PRESETS
from mnist_bp.results.dataset import CachedDataset

PRESET: Final = "relu-128"

COMPARED: Final = ("cpu", "autograd-tuned")


def measure(
    runs: int,
    steps: int | None = None,
    names: Sequence[str] | None = None,
    log: Log = silent,
    *,
    data: CachedDataset | None = None,
) -> dict[str, Any]:
    """Train `runs` seeds with each implementation.

    Args:
        runs: Number of seeds.
        steps: Steps of a training; those of the preset if None.
        names: Implementations, of `PEERS`, those that train by any recipe; `COMPARED` if None. Ratios are to the first.
        log: Called with a line for each seed.
        data: Dataset to train on; None for MNIST, or for the bundled sample if MNIST cannot be downloaded.

    Returns:
        JSON-ready: the machine, the task, and one entry for each implementation under `rows`, with the microseconds per
        step and the accuracy of each seed.

    Raises:
        ConfigError: A name is unknown, or names an implementation of the lab's rule alone; `runs` is below 1.
        WorkerError: An implementation cannot run on this machine.
    """
    check_rounds(runs)
    peers = find_peers(names or COMPARED)
    for peer in peers:
        if not peer.recipes:
            expected = ", ".join(other.name for other in PEERS.values() if other.recipes)
            raise ConfigError(f"bench: {peer.name} trains by the lab's rule alone; expected some of {expected}")
    machine, data = header(), data or default_dataset()
    config = PRESETS[PRESET] if steps is None else PRESETS[PRESET].model_copy(update={"steps": steps})
    task = {"classes": CLASSES, **config.training_record}
    us: list[list[float]] = [[] for _ in peers]
    accuracy: list[list[float]] = [[] for _ in peers]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_task(directory, data, task, config.steps)
        workers = [stack.enter_context(Worker(peer.name, directory)) for peer in peers]
        for seed in range(1, runs + 1):
            log(f"recipe: seed {seed} of {runs}")
            for place, worker in enumerate(workers):
                answer = worker.train(config.steps, accuracy=True, seed=seed)
                us[place].append(answer["seconds"] / config.steps * 1e6)
                accuracy[place].append(answer["accuracy"])
    return {
        "bench": "recipe",
        "machine": machine,
        "dataset": data.name,
        "preset": PRESET,
        "task": {**task, "threads": 1},
        "runs": runs,
        "rows": [
            {
                "name": peer.name,
                "title": peer.title,
                "us_per_step": spread(mine),
                "ratio": ratio(mine, us[0]),
                "accuracy": reached,
                "p": p_value(reached, accuracy[0]),
            }
            for peer, mine, reached in zip(peers, us, accuracy, strict=True)
        ],
    }


def p_value(accuracies: Sequence[float], others: Sequence[float]) -> float:
    """Return the two-sided p-value of the Mann-Whitney test that neither of two samples tends to be larger."""
    from scipy.stats import mannwhitneyu  # takes 0.5 s to import

    return float(mannwhitneyu(accuracies, others).pvalue)


def table(result: dict[str, Any]) -> Table:
    """Show one row for each implementation."""
    first = result["rows"][0]["name"]
    columns = (
        "implementation",
        "us/step",
        "min to max",
        f"x {first}",
        "accuracy",
        "std",
        "min to max",
        f"p to {first}",
    )
    steps = f"{result['task']['steps']:,} steps"
    title = f"{result['preset']}, {steps}, {result['dataset']}, one thread, n = {result['runs']} seeds"
    rows = empty_table(title, result["machine"], columns, "p: Mann-Whitney test of equal accuracy")
    for row in result["rows"]:
        us, reached = row["us_per_step"], row["accuracy"]
        rows.add_row(
            row["title"],
            f"{us['median']:,.1f}",
            f"{us['min']:,.1f} to {us['max']:,.1f}",
            f"{row['ratio']:,.1f}",
            f"{statistics.fmean(reached):.4f}",
            f"{statistics.stdev(reached):.4f}" if len(reached) > 1 else "",
            f"{min(reached):.4f} to {max(reached):.4f}",
            f"{row['p']:.2f}",
        )
    return rows
