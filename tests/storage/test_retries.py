"""Retries: what is tried again, how often, for how long, and what the last error says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mnist_bp.errors import StoreError
from mnist_bp.storage import retries
from mnist_bp.storage.retries import FIRST_WAIT, LONGEST_WAIT, RetryPolicy, retry
from tests.support.store_files import error_of


class Clock:
    """Time that passes when somebody sleeps, and as long as a call takes."""

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
    """A call that fails so many times, and then tells how often it was called."""
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


def test_a_fault_that_passes_is_not_seen(clock: Clock) -> None:
    assert retry(failing(9), RetryPolicy(10)) == 10
    assert len(clock.waits) == 9


def test_attempts_are_bounded_and_counted_in_the_error(clock: Clock) -> None:
    error = error_of(lambda: retry(failing(10), RetryPolicy(10)))
    assert "no; tried 10 times in " in str(error)
    assert error.transient
    assert len(clock.waits) == 9


def test_seconds_are_bounded_too(clock: Clock) -> None:
    error = error_of(lambda: retry(failing(99, clock, 50), RetryPolicy(10, seconds=120)))
    assert "tried 3 times in 15" in str(error)


def test_a_lasting_error_is_raised_at_once_as_it_is(clock: Clock) -> None:
    error = error_of(lambda: retry(failing(1, transient=False), RetryPolicy(10)))
    assert (str(error), clock.waits) == ("no", [])


def test_one_attempt_is_one(clock: Clock) -> None:
    assert "tried once" in str(error_of(lambda: retry(failing(1), RetryPolicy(1))))
    assert clock.waits == []


def test_waits_are_drawn_below_a_limit_that_doubles_up_to_the_longest(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: low + high)
    retry(failing(9), RetryPolicy(10))
    assert clock.waits == [min(LONGEST_WAIT, FIRST_WAIT * 2**each) for each in range(9)]


def test_clients_that_failed_together_do_not_come_back_together(clock: Clock) -> None:
    for _ in range(200):
        retry(failing(1), RetryPolicy(10))
    assert len(set(clock.waits)) == 200
    assert min(clock.waits) < 0.1 * FIRST_WAIT
    assert 0.9 * FIRST_WAIT < max(clock.waits) <= FIRST_WAIT
