"""The text of several seeds: a range, a list, or a count."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

MAX_SEEDS: Final = 1_000_000
"""Seeds in one configuration; far fewer models fit in memory."""


def parse_seeds(text: str, first: int) -> tuple[int, ...]:
    """Parse the text of several seeds.

    Args:
        text: A range `1..64` (both ends included), a list `3,5,8`, or a count `64`.
        first: First seed of a count.

    Raises:
        ValueError: The text is none of these; states what was expected.
    """
    if counted := re.fullmatch(r"\d+", text):
        start, count = first, int(counted[0])
    elif limits := re.fullmatch(r"(\d+)\.\.(\d+)", text):
        start, count = int(limits[1]), int(limits[2]) - int(limits[1]) + 1
        if count < 1:
            raise ValueError(f"expected the lower seed first, as in {limits[2]}..{limits[1]}")
    elif re.fullmatch(r"\d+(,\d+)+", text):
        seeds = tuple(map(int, text.split(",")))
        if repeated := [seed for seed, times in Counter(seeds).items() if times > 1]:
            raise ValueError(f"expected every seed once, but {min(repeated)} is repeated")
        return _checked(seeds)
    else:
        raise ValueError("expected a range such as 1..64, a list such as 3,5,8, or a count such as 64")
    if not 1 <= count <= MAX_SEEDS:
        raise ValueError(f"expected 1 to {MAX_SEEDS:,} seeds, got {count:,}")
    return _checked(tuple(range(start, start + count)))


def _checked(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if max(seeds) >= 2**53:
        raise ValueError(f"expected seeds below 2**53, got {max(seeds)}")
    return seeds


def seeds_range(seeds: Sequence[int]) -> str:
    """Return seeds as `1`, `1..64`, or `3,5,8`."""
    if len(seeds) > 1 and list(seeds) == [*range(seeds[0], seeds[0] + len(seeds))]:
        return f"{seeds[0]}..{seeds[-1]}"
    return ",".join(map(str, seeds))
