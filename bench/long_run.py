"""Whether a step takes as long at the end of a long run as at its start; without flush-to-zero it may not."""

from __future__ import annotations

import time
from typing import Any, Final

from rich.table import Table

from bench.data import default_dataset
from bench.machine import header
from bench.rounds import Log, check_rounds, empty_table, ratio, rounds, silent, spread
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.model.parameters import CLASSES, PIXELS, initial_parameters
from mnist_bp.presets import PRESETS
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.training.loop import ExampleOrder

PARTS: Final = 10
"""Equal parts of a run, each of which is timed."""


def measure(runs: int, steps: int, log: Log = silent, *, data: CachedDataset | None = None) -> dict[str, Any]:
    """Train one model with the `cpu` engine for `PARTS` times `steps` steps in each round.

    Args:
        runs: Counted rounds; one warm-up round comes before them.
        steps: Steps of one part.
        log: Called with a line for each round.
        data: Dataset to train on; None for MNIST, or for the bundled sample if MNIST cannot be downloaded.

    Returns:
        JSON-ready: the machine; for each of the `parts` its first and last step, the raw seconds, and `ratio`, the
        median over the rounds of its time to that of the first part; and the `ratio` of the last part.

    Raises:
        ConfigError: `runs` is below 1.
    """
    check_rounds(runs)
    machine, data = header(), data or default_dataset()
    images, labels = load_split(data.train)
    resident = CpuEngine().load(images, labels)
    config = PRESETS["lab-8-4"]
    order = ExampleOrder(config.seed, len(images), config.batch_size, config.recipe)
    batches = [order.batches(part * steps, (part + 1) * steps) for part in range(PARTS)]

    def seconds_of_parts() -> list[float]:
        model = initial_parameters(config.seed, PIXELS, config.hidden, CLASSES)
        seconds = []
        for part in batches:
            started = time.perf_counter()
            (model,) = resident.advance([model], [part], config.recipe)
            seconds.append(time.perf_counter() - started)
        return seconds

    counted = [seconds for counts in rounds("long", runs, log) if (seconds := seconds_of_parts()) and counts]
    by_part = [list(part) for part in zip(*counted, strict=True)]
    parts = [
        {"first": part * steps, "last": (part + 1) * steps, **spread(seconds), "ratio": ratio(seconds, by_part[0])}
        for part, seconds in enumerate(by_part)
    ]
    return {
        "bench": "long",
        "machine": machine,
        "dataset": data.name,
        "runs": runs,
        "steps": steps,
        "parts": parts,
        "ratio": parts[-1]["ratio"],
    }


def table(result: dict[str, Any]) -> Table:
    """Show the microseconds per step of each part, and their ratio to the first."""
    steps = result["steps"]
    title = (
        f"one model, {PARTS * steps:,} steps, {result['dataset']}, cpu engine; median of n = {result['runs']} rounds"
    )
    rows = empty_table(title, result["machine"], ("steps", "us/step", "min to max", "x first"))
    for part in result["parts"]:
        median, least, most = (part[key] / steps * 1e6 for key in ("median", "min", "max"))
        rows.add_row(
            f"{part['first']:,} to {part['last']:,}",
            f"{median:.2f}",
            f"{least:.2f} to {most:.2f}",
            f"{part['ratio']:.2f}",
        )
    return rows
