"""How many models a second a population trains, against one model after the other, measured in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

from rich.table import Table

from bench.data import default_dataset
from bench.machine import describe, header
from mnist_bp.config import PRESETS
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.engines.parallel import on_every_core, usable_cores
from mnist_bp.model.parameters import CLASSES, PIXELS, initial_parameters
from mnist_bp.training.loop import ExampleOrder, train

MODELS: Final = 64
"""A population of the README's size."""


def measure(runs: int, steps: int, on_progress: Callable[[str], None]) -> dict[str, Any]:
    """Train a population, and one model alone, in turn.

    Args:
        runs: Counted rounds; one more comes before them.
        steps: Steps of each model.
        on_progress: Told in one line what is going on.

    Returns:
        JSON-ready: the machine, and for `population` and `alone` the raw seconds, first weights and orders included.
    """
    machine = header()
    data = default_dataset()
    images, labels = load_split(data.train)
    resident = CpuEngine().load(images, labels)
    config = PRESETS["lab-8-4"].model_copy(update={"steps": steps, "checkpoint_every": max(1, steps // 10)})

    def seconds_for(models: int) -> float:
        started = time.perf_counter()
        seeds = range(1, models + 1)
        population = on_every_core(lambda seed: initial_parameters(seed, PIXELS, config.hidden, CLASSES), seeds)
        orders = [ExampleOrder(seed, len(images), config.batch_size) for seed in seeds]
        for _ in train(config, resident, population, orders):
            pass
        return time.perf_counter() - started

    seconds: dict[str, list[float]] = {"population": [], "alone": []}
    for number in range(runs + 1):
        on_progress(f"population: round {number} of {runs}" if number else "population: warm-up")
        measured = {"population": seconds_for(MODELS), "alone": seconds_for(1)}
        if number:
            for name, value in measured.items():
                seconds[name].append(value)
    about = {"machine": machine, "dataset": data.name, "models": MODELS, "cores": usable_cores()}
    return {"bench": "population", **about, "runs": runs, "steps": steps, "seconds": seconds}


def table(result: dict[str, Any]) -> Table:
    """Lay out models a second, and how much faster the population is than one model after the other."""
    rows = Table(
        "", "models/s", "min to max", "x one after the other",
        caption=describe(result["machine"]), caption_justify="left",
        title=f"{result['steps']:,} steps, {result['dataset']}, {result['cores']} cores, n = {result['runs']}",
    )  # fmt: skip
    for column in rows.columns[1:]:
        column.justify = "right"
    together, alone = result["seconds"]["population"], result["seconds"]["alone"]
    ratio = median(result["models"] * one / all_ for one, all_ in zip(alone, together, strict=True))
    for title, seconds, models, times in (
        (f"{result['models']} models, on every core", together, result["models"], f"{ratio:.2f}"),
        ("one model", alone, 1, "1"),
    ):
        rates = [models / each for each in seconds]
        rows.add_row(title, f"{median(rates):.1f}", f"{min(rates):.1f} to {max(rates):.1f}", times)
    return rows
