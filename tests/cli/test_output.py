"""Text from outside on the terminal: control characters are escaped, and brackets are no markup."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_bp.cli.main import main
from mnist_bp.cli.process import print_error, print_line
from mnist_bp.cli.tables import print_table
from mnist_bp.errors import UNPRINTABLE, MnistBpError
from mnist_bp.storage.local import LocalStore
from tests.support.published_runs import promote, publish
from tests.support.store_files import put

HOSTILE = "\x1b[31m[bold]red\u202e\x07"


@pytest.mark.parametrize(
    "command",
    [["runs"], ["verify", "--all"], ["gc", "--dry-run", "--keep=0", "--grace-hours=0"], ["champion"], ["show", "x"]],
    ids=" ".join,
)
def test_a_key_of_a_store_moves_no_cursor_and_is_shown_as_it_is(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "[link]place[/]"
    store = LocalStore(place)
    promote(store, publish(store, 1))
    put(store, f"runs/{HOSTILE}/manifest.json", b"no manifest")
    put(store, f"runs/{HOSTILE}/{HOSTILE}.bin", b"no file of a run")
    main([*command, "--artifacts", str(place)])
    output = capsys.readouterr()
    shown = output.out + output.err
    assert not UNPRINTABLE.search(shown.replace("\n", ""))
    if command[0] in ("verify", "champion", "show"):
        assert "[link]place[/]" in shown
    if command[0] in ("runs", "verify"):
        assert "\\x1b[31m[bold]red\\u202e\\x07" in shown


def test_the_summary_of_a_run_in_a_directory_with_a_hostile_name_moves_no_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--dataset", "mnist-sample", "--engine", "reference", "--steps", "2", "--checkpoint-every", "2"]
    assert main(["train", *flags, "--data-dir", str(tmp_path / HOSTILE)]) == 0
    output = capsys.readouterr()
    assert not UNPRINTABLE.search((output.out + output.err).replace("\n", ""))
    assert "\\x1b[31m[bold]red\\u202e\\x07" in output.out


def test_the_message_of_an_error_has_no_control_characters() -> None:
    assert str(MnistBpError(f"HTTP 404 {HOSTILE}\nnext")) == ("HTTP 404 \\x1b[31m[bold]red\\u202e\\x07 next")


def test_whatever_prints_a_line_escapes_it(capsys: pytest.CaptureFixture[str]) -> None:
    for show in (print_error, print_line, lambda text: print_table(("run",), [(text,)])):
        show(HOSTILE)
        output = capsys.readouterr()
        assert "\\x1b[31m[bold]red\\u202e\\x07" in output.out + output.err
