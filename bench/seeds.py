"""How many models per second are trained side by side, compared with one model after the other, measured in turn."""

from __future__ import annotations

import time
from typing import Any, Final

from rich.table import Table

from bench.data import default_dataset
from bench.machine import header
from bench.rounds import Log, check_rounds, empty_table, ratio, rounds, silent, spread
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.engines.parallel import on_every_core, usable_cores
from mnist_bp.model.parameters import CLASSES, PIXELS, initial_parameters
from mnist_bp.presets import PRESETS
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.training.loop import ExampleOrder, train

MODELS: Final = 64
"""Models trained side by side, as by `--seeds 1..64`."""


def measure(
    runs: int, steps: int, log: Log = silent, *, data: CachedDataset | None = None, models: int = MODELS
) -> dict[str, Any]:
    """Train several models side by side, and one model alone, in turn.

    Args:
        runs: Counted rounds; one warm-up round comes before them.
        steps: Steps of each model.
        log: Called with a line for each round.
        data: Dataset to train on; None for MNIST, or for the bundled sample if MNIST cannot be downloaded.
        models: Models trained side by side.

    Returns:
        JSON-ready: the machine; for `side_by_side` and `alone` the raw seconds, which include initial weights and
        orders of examples; and `speedup`, how many times faster the models are trained than one after the other.

    Raises:
        ConfigError: `runs` is below 1.
    """
    check_rounds(runs)
    machine, data = header(), data or default_dataset()
    images, labels = load_split(data.train)
    resident = CpuEngine().load(images, labels)
    config = PRESETS["lab-8-4"].model_copy(update={"steps": steps, "checkpoint_every": max(1, steps // 10)})

    def seconds_for(count: int) -> float:
        started = time.perf_counter()
        seeds = range(1, count + 1)
        starts = on_every_core(lambda seed: initial_parameters(seed, PIXELS, config.hidden, CLASSES), seeds)
        orders = [ExampleOrder(seed, len(images), config.batch_size, config.recipe) for seed in seeds]
        for _ in train(config, resident, starts, orders):
            pass
        return time.perf_counter() - started

    side_by_side, alone = [], []
    for counts in rounds("seeds", runs, log):
        seconds = seconds_for(models), seconds_for(1)
        if counts:
            side_by_side.append(seconds[0])
            alone.append(seconds[1])
    return {
        "bench": "seeds",
        "machine": machine,
        "dataset": data.name,
        "models": models,
        "cores": usable_cores(),
        "runs": runs,
        "steps": steps,
        "side_by_side": spread(side_by_side),
        "alone": spread(alone),
        "speedup": models * ratio(alone, side_by_side),
    }


def table(result: dict[str, Any]) -> Table:
    """Show models per second, and the speed-up over one model after the other."""
    title = f"{result['steps']:,} steps, {result['dataset']}, {result['cores']} cores, n = {result['runs']}"
    rows = empty_table(title, result["machine"], ("", "models/s", "min to max", "x one after the other"))
    for name, seconds, models, speedup in (
        (f"{result['models']} models, on every core", result["side_by_side"], result["models"], result["speedup"]),
        ("one model", result["alone"], 1, 1.0),
    ):
        rates = [models / seconds[key] for key in ("median", "max", "min")]
        rows.add_row(name, f"{rates[0]:.1f}", f"{rates[1]:.1f} to {rates[2]:.1f}", f"{speedup:.2f}")
    return rows
