"""Retries: which errors, how often, for how long, and the message of the last error."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mnist_bp.errors import StoreError
from mnist_bp.storage import retries
from mnist_bp.storage.retries import FIRST_WAIT_S, MAX_WAIT_S, RetryPolicy, retry
from tests.support.store_files import error_of


class Clock:
    """A clock that advances by every sleep, and by the duration of a call."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retries, "time", clock)
    return clock


def failing(times: int, clock: Clock | None = None, seconds: float = 0, *, transient: bool = True) -> Callable[[], int]:
    """Return a function that fails so many times, and then returns the number of calls."""
    calls = 0

    def call() -> int:
        nonlocal calls
        calls += 1
        if clock is not None:
            clock.now += seconds
        if calls <= times:
            raise StoreError("no", transient=transient)
        return calls

    return call


def test_a_transient_fault_is_hidden_from_the_caller(clock: Clock) -> None:
    assert retry(failing(9), RetryPolicy(10)) == 10
    assert len(clock.waits) == 9


def test_the_number_of_attempts_is_limited_and_stated_in_the_error(clock: Clock) -> None:
    error = error_of(lambda: retry(failing(10), RetryPolicy(10)))
    assert "no; tried 10 times in " in str(error)
    assert error.transient
    assert len(clock.waits) == 9


def test_the_time_is_limited_too(clock: Clock) -> None:
    error = error_of(lambda: retry(failing(99, clock, 50), RetryPolicy(10, seconds=120)))
    assert "tried 3 times in 15" in str(error)


def test_an_error_that_is_not_transient_is_raised_at_once_unchanged(clock: Clock) -> None:
    error = error_of(lambda: retry(failing(1, transient=False), RetryPolicy(10)))
    assert (str(error), clock.waits) == ("no", [])


def test_one_attempt_means_no_retry(clock: Clock) -> None:
    assert "tried once" in str(error_of(lambda: retry(failing(1), RetryPolicy(1))))
    assert clock.waits == []


def test_waits_are_random_below_a_limit_that_doubles_up_to_the_maximum(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: low + high)
    retry(failing(9), RetryPolicy(10))
    assert clock.waits == [min(MAX_WAIT_S, FIRST_WAIT_S * 2**each) for each in range(9)]


def test_clients_that_failed_together_do_not_return_together(clock: Clock) -> None:
    for _ in range(200):
        retry(failing(1), RetryPolicy(10))
    assert len(set(clock.waits)) == 200
    assert min(clock.waits) < 0.1 * FIRST_WAIT_S
    assert 0.9 * FIRST_WAIT_S < max(clock.waits) <= FIRST_WAIT_S
