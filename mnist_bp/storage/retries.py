"""Retries of requests: after transient faults only, limited in number and time, and not in silence.

botocore's own retries are off, and the tasks that only use a store have none either: attempts would multiply.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar

from mnist_bp.errors import StoreError

FIRST_WAIT_S: Final = 0.2
MAX_WAIT_S: Final = 10.0

NOTICE_S: Final = 4.0
"""Seconds without success after which a line reports that a request is still being tried."""

NOTICE_INTERVAL_S: Final = 30.0
"""Seconds between two such lines of one process: of several requests at a time, one is reported."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetryPolicy:
    """Limits of the retries of one request.

    Args:
        attempts: Maximum number of attempts. The waits between ten sum up to 21 seconds on average, 43 at most.
        seconds: Time after which no further attempt begins.
        attempt_seconds: Time after which an attempt ends, however its reply comes in; for each 64 KiB that it sends or
            receives, it gets a second more.
    """

    attempts: int = 10
    seconds: float = 120
    attempt_seconds: float = 60


def within(seconds: float, call: Callable[[], T], what: str) -> T:
    """Call a function in a separate thread, and stop waiting for it when its time is over.

    The time-outs of an HTTP client are those of one read, so a server that sends a byte now and then never meets one.
    A call that does not end is left to itself; its thread does not keep the process alive.

    Args:
        seconds: Time to wait.
        call: Function whose result is not needed if it is late.
        what: Start of the message, such as "cannot read s3://bucket/key".

    Raises:
        StoreError: The time is over; transient.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as exc:  # raised below, in the thread of the caller
            errors.append(exc)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise StoreError(f"{what}: no complete reply within {seconds:g} s; check the network", transient=True)
    return results[0]


class _Notices:
    """Reports requests that take long, at most one line in a while."""

    def __init__(self) -> None:
        self._last = -math.inf
        self._lock = threading.Lock()

    @contextmanager
    def about(self, describe: Callable[[], str]) -> Iterator[None]:
        """Report the block unless it ends soon."""
        timer = threading.Timer(NOTICE_S, self._report, [describe])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _report(self, describe: Callable[[], str]) -> None:
        with self._lock:
            now = time.monotonic()
            if now < self._last + NOTICE_INTERVAL_S:
                return
            self._last = now
        logger.warning(describe())


_notices: Final = _Notices()


def retry(call: Callable[[], T], policy: RetryPolicy, what: str = "the store") -> T:
    """Call until there is no transient fault, or a limit is reached; after `NOTICE_S` seconds, log a line.

    The waits grow exponentially with full jitter, so that clients which failed together do not return together.
    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Raises:
        StoreError: The first that is not transient, unchanged; or the last transient one, with the number of attempts.
    """
    start, problem = time.monotonic(), "no reply yet"

    def describe() -> str:
        return f"waiting     for {what}: {problem}; it is tried for {policy.seconds:g} s"

    with _notices.about(describe):
        for attempt in count(1):
            try:
                return call()
            except StoreError as exc:
                if not exc.transient:
                    raise
                problem = str(exc)
                elapsed = time.monotonic() - start
                wait = random.uniform(0, min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1)))  # noqa: S311 - no secret
                if attempt >= policy.attempts or elapsed + wait > policy.seconds:
                    tried = "once" if attempt == 1 else f"{attempt} times in {elapsed:.1f} s"
                    raise StoreError(f"{exc}; tried {tried}", transient=True) from exc
            time.sleep(wait)
    raise AssertionError
