"""Several models trained side by side, which differ in their seeds alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from mnist_bp.errors import ConfigError

Result = TypeVar("Result")

CONTROL_GROUP: Final = Path("/sys/fs/cgroup")


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
        limit, used = ((CONTROL_GROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
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
