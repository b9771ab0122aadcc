"""Signs of life on a terminal."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable

from mnist_bp.cli.alive import SignsOfLife
from tests.support.terminal import on_terminal
from tests.support.waiting import HANG_S

SLOW_COMMAND = """
import sys, time
from mnist_bp.cli import alive, main
alive.SILENCE_S = 0.05
sys.argv = ["mnist-bp", "certify"]
main.main = lambda: time.sleep(0.5) or 0
main.script()
"""


def wait_for(condition: Callable[[], bool]) -> None:
    ended = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < ended
        time.sleep(0.01)


def test_a_silent_stage_is_reported_again_and_again_with_its_name_until_the_end() -> None:
    text = io.StringIO()
    signs = SignsOfLife("starting", text, silence=0.02)
    wait_for(lambda: len(re.findall(r"starting    still working \(\d+ s\)\n", text.getvalue())) >= 2)
    signs.printed("train       run 20261123T181500Z-1a2b3c4d")
    wait_for(lambda: "train       still working" in text.getvalue())
    signs.stop()
    printed = text.getvalue()
    time.sleep(0.1)
    assert text.getvalue() == printed


def test_nothing_is_added_to_a_progress_bar() -> None:
    text = io.StringIO()
    signs = SignsOfLife("train", text, silence=0.01)
    with signs.paused():
        printed = text.getvalue()
        time.sleep(0.1)
        assert text.getvalue() == printed
    wait_for(lambda: text.getvalue() != printed)
    signs.stop()


def test_a_slow_command_shows_signs_of_life_on_a_terminal() -> None:
    printed = on_terminal("-c", SLOW_COMMAND, columns=80)
    assert re.match(r"certify     still working \(\d+ s\)\n", printed)
