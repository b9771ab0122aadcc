"""Several models side by side, which differ only in their seeds: memory, cores, and threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from mnist_bp.errors import ConfigError, counted
from mnist_bp.storage.memory import available_memory

Result = TypeVar("Result")


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
    need = "one model needs" if models == 1 else f"{models:,} models need"
    _refuse_more_than_free(needed, need, "train fewer seeds, or models with fewer hidden units")


def scores_memory(models: int, checkpoints: int, classes: int) -> int:
    """Estimate the memory that the scores of a run in parts take on the machine that starts it, in bytes.

    Counts two copies, because the scores of the parts are joined into one table; see
    `mnist_bp.training.part_scores.gather_scores`.

    Args:
        models: Number of models.
        checkpoints: Number of checkpoints of each.
        classes: K; a model has 4 + K scores at a checkpoint.
    """
    return 2 * 8 * models * checkpoints * (4 + classes)


def check_scores_memory(models: int, checkpoints: int, classes: int) -> None:
    """Check that this machine has enough memory for the scores of a run in parts; see `scores_memory`.

    Raises:
        ConfigError: There is too little; states both figures.
    """
    need = f"the scores of {counted(models, 'model')} at {counted(checkpoints, 'checkpoint')} need"
    fewer = "write fewer checkpoints (--checkpoint-every), or train fewer models" if checkpoints > 1 else "train fewer"
    _refuse_more_than_free(scores_memory(models, checkpoints, classes), need, fewer)


def _refuse_more_than_free(needed: int, need: str, remedy: str) -> None:
    if needed > (available := available_memory()):
        raise ConfigError(
            f"{need} about {needed / 1e9:,.1f} GB of memory, and {available / 1e9:,.1f} GB are free; {remedy}"
        )


_most_cores: ContextVar[int | None] = ContextVar("most_cores", default=None)


@contextmanager
def at_most_cores(count: int) -> Iterator[None]:
    """Let `usable_cores` return a number, in this thread, instead of counting the machine's cores.

    Args:
        count: Number of cores, at least 1.
    """
    token = _most_cores.set(count)
    try:
        yield
    finally:
        _most_cores.reset(token)


def usable_cores() -> int:
    """Return the number of cores that this thread was given, or else those that this process may run on."""
    if (given := _most_cores.get()) is not None:
        return given
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_every_core(function: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
    """Call a function once for each model, with one thread per core.

    Args:
        function: Called once for each element; runs in parallel where it releases the interpreter's lock.
        arguments: One sequence for each parameter of the function, all of the same length.

    Returns:
        The results, in the order of the arguments.
    """
    cores_to_use = usable_cores()
    if len(arguments[0]) == 1 or cores_to_use == 1:
        return list(map(function, *arguments))
    with ThreadPoolExecutor(cores_to_use) as cores:
        return list(cores.map(function, *arguments))
