"""What a terminal shows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mnist_bp.cli.console import Terminal


def test_without_a_console_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.say("hello")
    with terminal.progress_bar("train", 10) as move:
        move(completed=5, note="fast")
    assert capsys.readouterr() == ("", "")


def test_text_is_shown_as_it_is_and_long_paths_stay_on_one_line() -> None:
    text = io.StringIO()
    Terminal(Console(file=text, width=40)).say(f"[bold]{'x' * 100}[/bold]")
    assert text.getvalue() == f"[bold]{'x' * 100}[/bold]\n"


def test_a_terminal_sees_a_bar_with_steps_and_note_and_a_file_does_not() -> None:
    for is_terminal in (True, False):
        text = io.StringIO()
        terminal = Terminal(Console(file=text, width=120, force_terminal=is_terminal, force_interactive=is_terminal))
        with terminal.progress_bar("train", 10_000) as move:
            move(completed=2_500, note="7,000 steps/s")
        assert ("2500/10000" in text.getvalue()) == is_terminal
        assert ("7,000 steps/s" in text.getvalue()) == is_terminal
