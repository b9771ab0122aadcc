"""The text of a sweep, such as `learning_rate=0.1,0.3 hidden=30,100`: a grid of settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from mnist_bp.errors import counted

SWEEPABLE: Final = (
    "learning_rate",
    "hidden",
    "batch_size",
    "initial",
    "loss",
    "activation",
    "schedule",
    "shift",
    "bias_gradient",
)
"""The settings that a sweep can vary: those that, with a seed, decide the weights at a step. (A linear schedule
also needs the number of steps, which is the same for all models.)"""

MAX_TOGETHER: Final = 64
"""Models that are trained in one piece, or in one part: their weights before and after a chunk of steps take 12 MB with
30 hidden units. More, and those of a sweep, are cut into parts: `mnist_bp.training.parts`."""

MAX_MODELS: Final = 1_000_000
"""Models of one run."""

_EXPECTED: Final = "expected settings such as learning_rate=0.1,0.3 hidden=30,100, with no space after a comma"


def parse_sweep(text: str) -> dict[str, list[str]]:
    """Split the text of a sweep into the values of each setting, which are not checked.

    Args:
        text: Settings with their values, separated by spaces: `learning_rate=0.1,0.3 hidden=30,100`.

    Raises:
        ValueError: It is no such text, or names a setting twice or one that cannot be swept.
    """
    values: dict[str, list[str]] = {}
    for word in text.split():
        name, equals, listed = word.partition("=")
        name = name.replace("-", "_")
        if not name or not equals:
            raise ValueError(f"{word!r} is not a setting with values: {_EXPECTED}")
        if not all(listed.split(",")):
            raise ValueError(f"{word!r} lacks a value next to a comma or the equals sign: {_EXPECTED}")
        if name not in SWEEPABLE:
            raise ValueError(f"{name} cannot be swept: expected {', '.join(SWEEPABLE[:-1])} or {SWEEPABLE[-1]}")
        if name in values:
            raise ValueError(f"{name} is given twice: expected each setting once, with all its values")
        values[name] = listed.split(",")
    if not values:
        raise ValueError(_EXPECTED)
    return values


def count_models(values: Mapping[str, list[str]], seeds: int) -> int:
    """Return the number of models that a sweep trains.

    Raises:
        ValueError: There are more than `MAX_MODELS`.
    """
    models = seeds * math.prod(map(len, values.values()))
    if models > MAX_MODELS:
        raise ValueError(
            f"{models:,} models ({' x '.join(f'{len(each):,}' for each in values.values())} settings x "
            f"{counted(seeds, 'seed')}): expected at most {MAX_MODELS:,}"
        )
    return models
