"""Tables: nothing is cut, on a terminal of any width or in a pipe."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest
from rich.table import Table

from mnist_bp.cli import process
from mnist_bp.cli.main import main
from mnist_bp.cli.tables import print_table, print_whole
from mnist_bp.storage.address import open_store
from tests.support.published_runs import promote, publish, run_id_of
from tests.support.terminal import on_terminal

COMMANDS = {
    "runs": ["runs"],
    "champion": ["champion"],
    "show": ["show", run_id_of(1)],
    "store": ["store", "check"],
    "certify": ["certify", "--engine", "cpu"],
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


class Terminal(io.TextIOWrapper):
    """Stdout on a terminal, or in a pipe, with the encoding of a locale."""

    def __init__(self, encoding: str, *, tty: bool) -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, encoding=encoding, write_through=True)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    def printed(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.raw_bytes.getvalue().decode(self.encoding))


LOCALES = {
    "utf-8": {"encoding": "utf-8"},
    "latin-1": {"encoding": "latin-1"},
    "ascii": {"encoding": "ascii"},
    "dumb": {"encoding": "utf-8", "TERM": "dumb"},
    "dumb-ascii": {"encoding": "ascii", "TERM": "dumb"},
    "no-colour": {"encoding": "utf-8", "NO_COLOR": "1"},
}


@pytest.mark.parametrize("columns", [40, 80, 120, None], ids=lambda columns: str(columns or "pipe"))
@pytest.mark.parametrize("locale", LOCALES.values(), ids=LOCALES)
def test_no_figure_or_mark_is_lost_at_any_width_in_any_encoding_on_any_terminal(
    locale: dict[str, str], columns: int | None, one_champion: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **locale, **({"COLUMNS": str(columns)} if columns else {})}.items():
        monkeypatch.setenv(name, value)
    figures = {
        "runs": [run_id_of(1), "*", "fashion-mnist", "reference", "20261123", "10,000", "1.0000", "1234.50"],
        "champion": [run_id_of(1), "promote", "1.0000"],
        "show": ["1,000", "10,000", "0.9100", "1.0000", "900", "0.0700"],
        "bench": ["an implementation with a long name", "1,234.5", "1,111.1 to 1,999.9", "x 12.3", "0.98", "end"],
    }
    for command, expected in figures.items():
        terminal = Terminal(locale["encoding"], tty=columns is not None)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", terminal)
            process.escape_unencodable()
            if command == "bench":
                print_whole(bench_table(expected))
            else:
                assert main(COMMANDS[command]) == 0
        printed = terminal.printed()
        assert "…" not in printed
        assert "\\u" not in printed
        words = printed.split()
        missing = [figure for figure in expected if not set(figure.split()) <= set(words)]
        assert missing == [], (command, printed)
        if columns is None and command == "runs":
            assert [line.split() for line in printed.splitlines() if run_id_of(1) in line] == [expected]
        if "NO_COLOR" in locale or columns is None:
            assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", terminal.raw_bytes.getvalue())


def bench_table(cells: list[str]) -> Table:
    machine = {"cpu": "a CPU", "cores": 2, "numpy": "2", "torch": "2", "numba": "0"}
    table = Table(*[f"a long heading {number}" for number in range(len(cells))], title="a title", caption=str(machine))
    table.add_row(*cells)
    return table


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
