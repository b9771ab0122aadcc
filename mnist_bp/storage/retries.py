"""Retries of requests: after transient faults only, limited in number and time.

botocore's own retries are off, and the tasks that only use a store have none either: attempts would multiply.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar

from mnist_bp.errors import StoreError

FIRST_WAIT_S: Final = 0.2
MAX_WAIT_S: Final = 10.0

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """Limits of the retries of one request.

    Args:
        attempts: Maximum number of attempts. The waits between ten sum up to 21 seconds on average, 43 at most.
        seconds: Time after which no further attempt begins; an attempt itself ends by the client's time-outs.
    """

    attempts: int = 10
    seconds: float = 120


def retry(call: Callable[[], T], policy: RetryPolicy) -> T:
    """Call until there is no transient fault, or a limit is reached.

    The waits grow exponentially with full jitter, so that clients which failed together do not return together.
    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Raises:
        StoreError: The first that is not transient, unchanged; or the last transient one, with the number of attempts.
    """
    start = time.monotonic()
    for attempt in count(1):
        try:
            return call()
        except StoreError as exc:
            if not exc.transient:
                raise
            elapsed = time.monotonic() - start
            wait = random.uniform(0, min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1)))  # noqa: S311 - no secret
            if attempt >= policy.attempts or elapsed + wait > policy.seconds:
                tried = "once" if attempt == 1 else f"{attempt} times in {elapsed:.1f} s"
                raise StoreError(f"{exc}; tried {tried}", transient=True) from exc
        time.sleep(wait)
    raise AssertionError
