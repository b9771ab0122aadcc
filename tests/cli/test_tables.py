"""Tables: nothing is cut, on a terminal of any width or in a pipe."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from mnist_bp.cli.tables import counted, print_table
from mnist_bp.storage.address import open_store
from tests.support.published_runs import promote, publish, run_id_of
from tests.support.terminal import on_terminal

COMMANDS = {
    "runs": ["runs"],
    "champion": ["champion"],
    "show": ["show", run_id_of(1)],
    "store": ["store", "check"],
    "certify": ["certify", "--engine", "reference"],
}


def cells(text: str) -> list[str]:
    """The words of a table in their order; lines of rules are left out."""
    return [word for word in text.split() if set(word) - set("─━")]


@pytest.fixture
def one_champion() -> None:
    """A champion of fashion-mnist with long figures, in ./artifacts."""
    store = open_store("artifacts")
    about = {"seed": 20261123, "train_seconds": 1234.5, "engine": "reference"}
    assert promote(store, publish(store, 1, "fashion-mnist", steps=(1_000, 10_000), changes=about), "fashion-mnist")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_and_narrow_terminals_get_every_figure_and_mark(command: str, one_champion: None) -> None:
    arguments = ["-m", "mnist_bp", *COMMANDS[command]]
    piped = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout
    assert "…" not in piped
    words = cells(re.sub(r"\(?[\d.]+ s\b\)?", "", piped))  # "0.1 s" differs from run to run
    for columns in (60, 80, 200):
        printed = on_terminal(*arguments, columns=columns)
        assert "…" not in printed
        missing = [word for word in words if word not in printed.split()]
        assert missing == [], columns
    if command == "runs":
        (row,) = [line for line in piped.splitlines() if run_id_of(1) in line]
        figures = ["20261123", "10,000", "1.0000", "1234.50"]
        assert row.split() == [run_id_of(1), "*", "fashion-mnist", "reference", *figures]
        assert all(figure in on_terminal(*arguments, columns=60) for figure in ["*", *figures])


def test_prose_is_wrapped_between_words_where_a_terminal_is_narrow() -> None:
    script = """
from mnist_bp.cli.tables import print_table
print_table(("capability", "detail"), [("read back", "word " * 20 + "end")], prose=("detail",))
"""
    printed = on_terminal("-c", script, columns=60)
    assert max(map(len, printed.splitlines())) <= 60
    assert printed.split().count("word") == 20
    assert printed.split()[-1] == "end"


def test_an_empty_column_takes_no_figure_from_the_last_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("run", "", "seconds"), [("1", "", "0.01")])
    print_table(("run", "", "", "", "seconds"), [("1", "", "", "", "0.01")])
    assert capsys.readouterr().out.count("seconds") == 2


@pytest.mark.parametrize(("number", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1_000, "1,000 runs")])
def test_a_count_has_its_noun_in_the_right_number(number: int, text: str) -> None:
    assert counted(number, "run") == text
