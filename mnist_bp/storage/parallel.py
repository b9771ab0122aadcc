"""Several files at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

_AT_ONCE: Final = 8
"""Requests under way at the same time; fewer than the connections that boto3 keeps (10)."""

Result = TypeVar("Result")


def in_parallel(function: Callable[..., Result], *items: Iterable[Any]) -> Iterator[Result]:
    """Call a function that waits for files, as `map` does, but several calls at a time."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        yield from threads.map(function, *items)
