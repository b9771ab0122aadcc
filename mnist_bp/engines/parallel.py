"""Several models side by side, which differ only in their seeds: memory, cores, and threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from mnist_bp.errors import ConfigError

Result = TypeVar("Result")

CONTROL_GROUP: Final = Path("/sys/fs/cgroup")
CONTROL_GROUP_FILES: Final = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""Limit and use of memory in bytes, as versions 2 and 1 of control groups have them."""


def memory_needed(models: int, inputs: int, hidden: int, classes: int, examples: int) -> int:
    """Estimate the memory that models take while they are trained, in bytes.

    Counts five copies of the weights (before and after a chunk of steps, the engine's layout, a checkpoint in progress
    and its bytes) and the order of the examples.
    """
    weights = 4 * (inputs * hidden + hidden + hidden * classes + classes)
    return models * (5 * weights + 4 * examples)


def check_memory(needed: int, models: int) -> None:
    """Check that this machine has enough memory.

    Args:
        needed: From `memory_needed`, in bytes.
        models: Number of models, for the message.

    Raises:
        ConfigError: There is too little; states both figures.
    """
    available = available_memory()
    if needed > available:
        raise ConfigError(
            f"{models:,} models need about {needed / 1e9:,.1f} GB of memory, and {available / 1e9:,.1f} GB are free; "
            "train fewer seeds, or models with fewer hidden units"
        )


def available_memory() -> int:
    """Return the free memory in bytes: of the machine, or of the process's control group if that is less."""
    import psutil  # 20 ms, and not installed on every machine that trains

    free: int = psutil.virtual_memory().available
    for limit_file, used_file in CONTROL_GROUP_FILES:
        with suppress(OSError):
            limit, used = ((CONTROL_GROUP / name).read_text().strip() for name in (limit_file, used_file))
            if limit != "max":  # version 1 has a limit of 2**63 instead, more than is free
                free = min(free, int(limit) - int(used))
    return free


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_every_core(function: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
    """Call a function once for each model, with one thread per core.

    Args:
        function: Called once for each element; runs in parallel where it releases the interpreter's lock.
        arguments: One sequence for each parameter of the function, all of the same length.

    Returns:
        The results, in the order of the arguments.
    """
    if len(arguments[0]) == 1:
        return [function(*(each[0] for each in arguments))]
    with ThreadPoolExecutor(usable_cores()) as cores:
        return list(cores.map(function, *arguments))
