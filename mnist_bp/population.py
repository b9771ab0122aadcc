"""Several models trained side by side, which differ in their seeds alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, Final, TypeVar

from mnist_bp.errors import ConfigError
from mnist_bp.records import Evaluation

Result = TypeVar("Result")

WEAK: Final = 0.90
"""Accuracy below which a model counts as weak: a few seeds saturate early and never recover."""

VALIDATION_SHARE: Final = 12
"""A population holds out one in this many training examples: 5,000 of MNIST's 60,000."""

MOST: Final = 1_000_000
"""Seeds that are written out; what fits in memory is fewer by far."""


_CONTROL_GROUP: Final = Path("/sys/fs/cgroup")


def parse_seeds(text: str, first: int) -> tuple[int, ...]:
    """Read which seeds to train.

    Args:
        text: `1..64` (both ends included), `3,5,8`, or a count: `64`.
        first: The first seed of a count.

    Raises:
        ValueError: Says what was expected.
    """
    if counted := re.fullmatch(r"\d+", text):
        start, count = first, int(counted[0])
    elif limits := re.fullmatch(r"(\d+)\.\.(\d+)", text):
        start, count = int(limits[1]), int(limits[2]) - int(limits[1]) + 1
    elif re.fullmatch(r"\d+(,\d+)+", text):
        seeds = tuple(map(int, text.split(",")))
        if repeated := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            raise ValueError(f"expected every seed once, but {repeated[0]} is repeated")
        return _in_range(seeds)
    else:
        raise ValueError("expected a range such as 1..64, a list such as 3,5,8, or a count such as 64")
    if not 1 <= count <= MOST:
        raise ValueError(f"expected 1 to {MOST:,} seeds, got {max(count, 0):,}")
    return _in_range(tuple(range(start, start + count)))


def _in_range(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if max(seeds) >= 2**53:
        raise ValueError(f"expected seeds below 2**53, got {max(seeds)}")
    return seeds


def memory_needed(models: int, inputs: int, hidden: int, classes: int, examples: int) -> int:
    """Estimate what models take while they are trained, in bytes.

    Five copies of the weights (before and after a stride, an engine's own layout, a checkpoint in the making and its
    bytes), and the order of the examples.
    """
    weights = 4 * (inputs * hidden + hidden + hidden * classes + classes)
    return models * (5 * weights + 4 * examples)


def check_memory(needed: int, models: int) -> None:
    """Refuse what this machine cannot hold.

    Raises:
        ConfigError: Names both figures.
    """
    available = available_memory()
    if needed > available:
        raise ConfigError(
            f"{models:,} models need about {needed / 1e9:,.1f} GB of memory, and {available / 1e9:,.1f} GB are free; "
            "train fewer with --seeds, or smaller ones with --hidden"
        )


def available_memory() -> int:
    """Return the memory that can still be taken, in bytes: the machine's, or its control group's where that is less."""
    import psutil  # 20 ms, and not on every machine that trains

    free: int = psutil.virtual_memory().available
    try:
        limit, used = ((_CONTROL_GROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used))


def usable_cores() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_every_core(function: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
    """Call a function once for each of several models, as many at a time as there are cores.

    Args:
        function: Gains from threads if it lets go of the interpreter's lock.
        arguments: What it is called with, one sequence for each of its parameters.
    """
    if len(arguments[0]) == 1:
        return [function(*(each[0] for each in arguments))]
    with ThreadPoolExecutor(usable_cores()) as cores:
        return list(cores.map(function, *arguments))


def population_accuracy(evaluation: Evaluation) -> dict[str, float]:
    """Describe the test accuracies of all models of a run after the last step.

    Returns:
        mean, median, standard_deviation (of the sample; 0 for one model), minimum, maximum and share_below_0.90.
    """
    accuracies = [score.accuracy for score in evaluation.population]
    return {
        "mean": fmean(accuracies),
        "median": median(accuracies),
        "standard_deviation": stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "minimum": min(accuracies),
        "maximum": max(accuracies),
        "share_below_0.90": sum(accuracy < WEAK for accuracy in accuracies) / len(accuracies),
    }
