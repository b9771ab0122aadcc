"""When a request is made again: after a transient fault, so many times, and for so long. The one place that decides.

botocore's own retries are off, and the steps that only talk to a store have none either: attempts would multiply.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar

from mnist_bp.errors import StoreError

FIRST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 10.0

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """How far one request is pursued.

    Args:
        attempts: In all. The waits between ten sum up to 21 seconds on average, and to 43 at most.
        seconds: After which no further attempt begins; an attempt itself ends by the client's time-outs.
    """

    attempts: int = 10
    seconds: float = 120


def retry(call: Callable[[], T], budget: RetryPolicy) -> T:
    """Call until there is no transient fault, or the budget is spent.

    The waits grow exponentially with full jitter, so that clients which failed together do not come back together.
    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Raises:
        StoreError: As the call raised it where it is not transient; else the last one, with how often it was tried.
    """
    start = time.monotonic()
    for attempt in count(1):
        try:
            return call()
        except StoreError as exc:
            if not exc.transient:
                raise
            elapsed = time.monotonic() - start
            wait = random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)))  # noqa: S311 - no secret
            if attempt >= budget.attempts or elapsed + wait > budget.seconds:
                tried = "once" if attempt == 1 else f"{attempt} times in {elapsed:.1f} s"
                raise StoreError(f"{exc}; tried {tried}", transient=True) from exc
        time.sleep(wait)
    raise AssertionError
