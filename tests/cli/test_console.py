"""What a terminal shows of a run in progress."""

from __future__ import annotations

import io
import logging
import re

import pytest
from rich.console import Console

from mnist_bp.cli.console import logging_to, progress_bar


def test_log_lines_are_printed_unchanged_and_long_paths_stay_on_one_line() -> None:
    text = io.StringIO()
    with logging_to(Console(file=text, width=40)):
        logging.getLogger("mnist_bp.pipeline").info(f"[bold]{'x' * 100}\x1b[/bold]")
    assert text.getvalue() == f"[bold]{'x' * 100}\\x1b[/bold]\n"


def test_debug_lines_and_other_libraries_are_not_printed() -> None:
    text = io.StringIO()
    with logging_to(Console(file=text)):
        logging.getLogger("mnist_bp.pipeline").debug("detail")
        logging.getLogger("httpx").info("request")
    logging.getLogger("mnist_bp.pipeline").info("after the block")
    assert text.getvalue() == ""


def test_a_terminal_draws_a_bar_with_steps_and_note_and_a_file_does_not() -> None:
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True, force_interactive=True)
    with progress_bar(console, "train") as move:
        assert move is not None
        move(2_500, 10_000, "7,000 [bold]steps/s")
    assert "2,500/10,000" in text.getvalue()
    assert "7,000 [bold]steps/s" in text.getvalue()
    with progress_bar(Console(file=io.StringIO()), "train") as move:
        assert move is None


def drawn(columns: int, amounts: list[tuple[int, int, float]]) -> str:
    """Return the last line of a bar after some amounts, each with its total and its time in seconds."""
    text, now = io.StringIO(), 0.0
    console = Console(file=text, width=columns, force_terminal=True, force_interactive=True)
    with progress_bar(console, "train", lambda: now) as move:
        assert move is not None
        for completed, total, now in amounts:  # noqa: B007 - read by the clock
            move(completed, total, "84,217 steps/s")
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue()).replace("\r", "\n").splitlines()
    return next(line.rstrip() for line in reversed(lines) if line.strip())


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_bar_shows_the_time_that_remains_and_cuts_no_figure(columns: int) -> None:
    line = drawn(columns, [(1_000, 1_000_000, 0), (11_000, 1_000_000, 10), (21_000, 1_000_000, 20)])
    assert "21,000/1,000,000" in line
    assert line.endswith("0:16:19 left")  # 979,000 steps at 1,000 steps/s
    assert "…" not in line
    assert ("84,217 steps/s 0:00:20" in line) == (columns >= 60)
    assert ("━" in line) == (columns >= 80)


def test_the_time_that_remains_of_a_resumed_run_is_that_of_the_steps_it_takes() -> None:
    assert drawn(80, [(61_000, 100_000, 0), (62_000, 100_000, 1)]).endswith("0:00:38 left")


def test_a_second_amount_starts_with_its_own_time() -> None:
    line = drawn(80, [(500, 1_000, 0), (1_000, 1_000, 50), (100, 1_000, 60), (200, 1_000, 61)])
    assert line.endswith("200/1,000 84,217 steps/s 0:00:01 0:00:08 left")


def test_a_terminal_that_cannot_move_its_cursor_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with progress_bar(Console(file=io.StringIO(), force_terminal=True), "train") as move:
        assert move is None
