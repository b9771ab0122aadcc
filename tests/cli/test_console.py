"""What a terminal shows of a run in progress."""

from __future__ import annotations

import io
import logging

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
    assert "2500/10000" in text.getvalue()
    assert "7,000 [bold]steps/s" in text.getvalue()
    with progress_bar(Console(file=io.StringIO()), "train") as move:
        assert move is None
