"""A few requests at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

_MAX_THREADS: Final = 8
"""Fewer than the connections that the S3 client keeps open."""

Result = TypeVar("Result")


def in_parallel(function: Callable[..., Result], *items: Iterable[Any]) -> Iterator[Result]:
    """Map a function that waits for files or requests, with several calls at a time and results in order."""
    with ThreadPoolExecutor(_MAX_THREADS) as threads:
        yield from threads.map(function, *items)
