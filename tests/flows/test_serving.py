"""Serving deployments until a signal."""

from __future__ import annotations

import os
import signal
import threading
import weakref

import pytest

from flows.runtime.serving import run_until_interrupted
from tests.support.waiting import under_load

pytestmark = pytest.mark.usefixtures("prefect_server", "own_signals")


class Garbage:
    """Something that can be referred to weakly."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_arrives_in_the_callback_of_a_weak_reference_is_not_lost(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python ignores what such a callback raises, a KeyboardInterrupt too."""
    lost = threading.Timer(under_load(20), os.kill, [os.getpid(), signal.SIGINT])

    def signal_in_a_callback() -> None:
        lost.start()
        garbage = Garbage()
        reference = weakref.ref(garbage, lambda _: signal.raise_signal(number))
        del garbage
        assert reference() is None

    try:
        run_until_interrupted([], signal_in_a_callback)
        assert lost.is_alive(), "the first signal had no effect"
    finally:
        lost.cancel()
    assert "no run was in progress" in capsys.readouterr().err
