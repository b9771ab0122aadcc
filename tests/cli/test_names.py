"""Names of runs on the command line: every RUN argument, `alias`, `delete`, and `--resume` without an id."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from mnist_bp.cli.main import main
from mnist_bp.cli.show import name_seeds
from mnist_bp.registry.champion import read_log
from mnist_bp.registry.names import resolve_run
from mnist_bp.storage.local import LocalStore
from mnist_bp.training.journal import Journal
from mnist_bp.training.workspace import lock_run
from tests.conftest import SMALL
from tests.support.published_runs import make_directory, promote, publish, put_promotion, run_id_of

FIRST, SECOND, THIRD = run_id_of(1), run_id_of(2), run_id_of(3)


@pytest.fixture
def store() -> LocalStore:
    """Two decided runs on mnist in ./artifacts, of which the first is champion."""
    store = LocalStore(Path("artifacts"))
    for number in (1, 2):
        publish(store, number)
    log = promote(store, FIRST)
    assert log is not None
    for run_id in (FIRST, SECOND):
        put_promotion(store, run_id, outcome="kept", entry=log.reference)
    return store


class Terminal(io.StringIO):
    """A terminal at which an answer is typed."""

    def isatty(self) -> bool:
        return True


def output_of(capsys: pytest.CaptureFixture[str], *command: str, code: int = 0) -> str:
    assert main(list(command)) == code
    printed = capsys.readouterr()
    return printed.out if code == 0 else printed.err


@pytest.mark.parametrize(
    ("name", "run_id"),
    [(FIRST, FIRST), (SECOND[:-1], SECOND), ("latest", SECOND), ("champion", FIRST), ("champion:mnist", FIRST)],
)
def test_show_verify_and_rollback_take_every_name(
    name: str, run_id: str, store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert output_of(capsys, "show", name).startswith(f"run            {run_id}")
    assert json.loads(output_of(capsys, "verify", name, "--json"))["intact"]
    assert json.loads(output_of(capsys, "rollback", name, "--json"))["champion_after"] == run_id


def test_an_alias_is_made_listed_shown_moved_and_removed(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert output_of(capsys, "alias") == "no aliases yet: mnist-bp alias RUN NAME makes one\n"
    assert output_of(capsys, "alias", "champion", "production") == f"alias production of mnist names {FIRST}\n"
    again = f"alias production of mnist already names {FIRST}; nothing changed\n"
    assert output_of(capsys, "alias", FIRST, "production") == again
    moved = f"alias production of mnist names {SECOND}, and no longer {FIRST}\n"
    assert output_of(capsys, "alias", "latest", "production") == moved
    lines = output_of(capsys, "alias").splitlines()
    assert (lines[0].split(), lines[-1].split()) == (["alias", "dataset", "run"], ["production", "mnist", SECOND])
    listed = json.loads(output_of(capsys, "alias", "--json"))
    assert listed == {"aliases": [{"alias": "production", "dataset": "mnist", "run_id": SECOND}], "problems": []}
    assert "\nalias          production\n" in output_of(capsys, "show", "production")
    assert json.loads(output_of(capsys, "show", "production", "--json"))["aliases"] == ["production"]
    assert f"\nalias          production: {SECOND}\n" in output_of(capsys, "champion")
    removed = json.loads(output_of(capsys, "alias", "--remove", "production", "--json"))
    assert removed == {"alias": "production", "dataset": "mnist", "run_before": SECOND, "run_after": None}
    assert "no run has the name 'production'" in output_of(capsys, "show", "production", code=1)
    assert "no run has the name 'production'" in output_of(capsys, "alias", "--remove", "production", code=1)


@pytest.mark.parametrize("name", [FIRST, "a/b", "champion", "latest", "Production", ""])
def test_an_impossible_alias_is_one_line_and_exit_code_2(
    name: str, store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    err = output_of(capsys, "alias", FIRST, name, code=2)
    assert err.startswith(f"error: alias {name!r}: ")
    assert len(err.splitlines()) == 1
    assert read_log(store, "mnist").aliases == {}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["alias", "latest"], "expected a run and an alias, as in mnist-bp alias RUN NAME; see --help"),
        (
            ["alias", "latest", "best", "--remove", "x"],
            "expected a run and an alias, or --remove, not both; see --help",
        ),
        (["alias", "--remove", ""], "--remove '': expected a value that is not empty; see --help"),
        (["delete"], "the following arguments are required: RUN; see --help"),
        (["runs", "--since", "yesterday"], "--since 'yesterday': expected a date or a time, such as 2026-11-23 or "),
        (["runs", "--since", "0999-01-01"], "--since '0999-01-01': expected a date or a time, such as 2026-11-23 or "),
        (["runs", "--top", "0"], "--top '0': expected at least 1; see --help"),
        (["runs", "--csv", "--json"], "expected --json or --csv, not both; see --help"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {expected}")


@pytest.mark.parametrize(
    "command", [["show", "X"], ["verify", "X"], ["rollback", "X"], ["alias", "X", "a"], ["delete", "X"]]
)
def test_an_ambiguous_start_names_the_runs_and_is_exit_code_2(
    command: list[str], store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    err = output_of(capsys, *["20261123" if word == "X" else word for word in command], code=2)
    assert err == (
        f"error: run 20261123: several ids begin with it, expected one: {FIRST}, {SECOND}; give more characters\n"
    )


@pytest.mark.parametrize("command", [["alias"], ["alias", "latest", "a"], ["delete", "latest"]], ids=" ".join)
def test_a_missing_store_is_an_error_and_not_created(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    err = output_of(capsys, *command, "--artifacts", "mistyped", code=1)
    assert err.startswith(f"error: there is no store at {Path('mistyped').absolute()}: nothing was published there; ")
    assert not Path("mistyped").exists()


# ---------------------------------------------------------------------------------------------------------------------
# delete


@pytest.mark.parametrize(
    ("answer", "deleted"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_delete_asks_once_on_a_terminal(
    answer: str,
    deleted: bool,
    store: LocalStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert main(["delete", SECOND[:-1]]) == (0 if deleted else 1)
    printed = capsys.readouterr()
    question = printed.err.splitlines()[0]
    assert question.startswith(f"this deletes {SECOND} (mnist, accuracy 0.9200): ")
    assert question.endswith("; it cannot be undone. Delete? [y/N]")
    assert (f"deleted {SECOND}" in printed.out) == deleted
    assert ("nothing was deleted" in printed.err) == (not deleted)
    assert Path("artifacts/runs", SECOND).exists() == (not deleted)


def test_delete_without_a_terminal_needs_yes(
    store: LocalStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    err = output_of(capsys, "delete", SECOND, code=2)
    assert err == f"error: delete {SECOND}: expected --yes, since stdin is no terminal to ask on\n"
    directory = make_directory(Path("data"), SECOND)
    report = json.loads(output_of(capsys, "delete", SECOND, "--yes", "--json"))
    uri = str(Path("artifacts/runs", SECOND).absolute())
    assert (report["run_id"], report["published"], report["directory"]) == (SECOND, uri, str(directory.absolute()))
    assert not directory.exists()
    assert not Path("artifacts/runs", SECOND).exists()


def test_delete_says_that_a_rollback_would_miss_the_run(
    store: LocalStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert promote(store, SECOND)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    first = output_of(capsys, "delete", FIRST, code=1).splitlines()[0]
    assert first == "it is the previous champion: mnist-bp rollback without a run can then no longer restore it"


def test_delete_refuses_a_champion_and_an_alias_before_it_asks(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{FIRST} is the champion of mnist" in output_of(capsys, "delete", "champion", code=1)
    output_of(capsys, "alias", SECOND, "best")
    assert f"{SECOND} has the alias best, and is not deleted" in output_of(capsys, "delete", "best", "--yes", code=1)
    assert resolve_run(store, "best") == SECOND


# ---------------------------------------------------------------------------------------------------------------------
# unfinished runs


def interrupted(capsys: pytest.CaptureFixture[str], *flags: str, artifacts: str = "artifacts") -> str:
    """Train a run, and remove what it published and its last checkpoint, as if it had been killed before."""
    command = ["train", *SMALL, "--engine", "reference", "--artifacts", artifacts, *flags, "--json"]
    run_id: str = json.loads(output_of(capsys, *command))["run_id"]
    store = LocalStore(Path(artifacts))
    for entry in list(store.list_entries()):
        if run_id in entry.key or entry.key.startswith("champion/"):
            store.delete(entry.key)
    journal = Journal(Path("data/runs", run_id)).path
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    return run_id


@pytest.mark.usefixtures("warm_caches", "own_signals")
def test_resume_alone_takes_the_newest_interrupted_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one in progress, nor one that is published, nor one whose journal cannot be read."""
    ids = map(run_id_of, (1, 2, 3))  # made in one second, real ones would have no order
    monkeypatch.setattr("mnist_bp.pipeline.new_run_id", lambda: next(ids))
    older = interrupted(capsys)
    newer = interrupted(capsys, "--seed", "2", artifacts="elsewhere")
    published = json.loads(output_of(capsys, "train", *SMALL, "--engine", "reference", "--seed", "3", "--json"))
    assert (older, newer, published["run_id"]) == (FIRST, SECOND, THIRD)
    listing = ["runs", "--artifacts", "elsewhere", "--json"]
    assert [run["run_id"] for run in json.loads(output_of(capsys, *listing))["interrupted"]] == [newer]
    assert json.loads(output_of(capsys, *listing, "--since", "2999-01-01"))["interrupted"] == []
    make_directory(Path("data"), "29991231T235959Z-00000000")
    damaged = Path("data/runs/29991231T235958Z-00000000/journal.jsonl")
    damaged.parent.mkdir()
    damaged.write_bytes(b"no journal")
    for name in (newer[:-1], newer):
        assert "interrupted after step 100 of 200" in output_of(capsys, "show", name, "--artifacts", "elsewhere")
    refused = output_of(capsys, "train", "--resume", "--steps", "300", code=2)
    assert refused.splitlines()[-1].startswith(f"error: run {newer} cannot be resumed with --steps 300 ")
    with lock_run(Path("data/runs", newer).absolute()):
        assert "resume it with" not in output_of(capsys, "show", newer, "--artifacts", "elsewhere")
        assert json.loads(output_of(capsys, "train", "--resume", "--json"))["run_id"] == older
        assert main(["train", "--resume", "latest"]) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith(f"error: --resume: data (--data-dir) has no interrupted run; in progress: {newer}; ")
    assert json.loads(output_of(capsys, "train", "--resume", "latest", "--json"))["run_id"] == newer
    assert Path("elsewhere/runs", newer, "manifest.json").exists()


@pytest.mark.usefixtures("warm_caches", "own_signals")
def test_an_unfinished_run_is_named_by_the_start_of_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    run_id = interrupted(capsys)
    Path("artifacts").rmdir()
    shown = output_of(capsys, "show", run_id[:-1])
    assert shown.startswith(f"run            {run_id}\n")
    assert shown.endswith(f"\nresume it with:\nmnist-bp train --resume {run_id}\n")
    Path("artifacts").mkdir()
    for command in (["compare", run_id[:-1], FIRST], ["open", run_id[:-1]], ["show", run_id, "--config"]):
        expected = f"error: {run_id} is not published: interrupted after step 100 of 200; resume it with mnist-bp train"
        assert expected in output_of(capsys, *command, code=1)
    Path("elsewhere").mkdir()
    elsewhere = output_of(capsys, "open", run_id, "--artifacts", "elsewhere", code=1)
    assert f"the run was started with --artifacts {Path('artifacts').absolute()}" in elsewhere
    Path("artifacts").rmdir()
    Path("elsewhere").rmdir()
    assert output_of(capsys, "train", "--resume", "209912", code=1).splitlines()[-1] == (
        "error: data (--data-dir): no run has an id that begins with 209912; see mnist-bp runs"
    )
    assert "has no run of that id" in output_of(capsys, "train", "--resume", "champion", code=2)
    elsewhere = output_of(capsys, "delete", run_id, "--yes", "--artifacts", "elsewhere", code=1)
    assert "there is no store at" in elsewhere
    Path("elsewhere").mkdir()
    elsewhere = output_of(capsys, "delete", run_id, "--yes", "--artifacts", "elsewhere", code=1)
    assert f"the run was started for {Path('artifacts').absolute()}" in elsewhere
    assert output_of(capsys, "delete", run_id[:-1], "--yes").startswith(f"deleted {run_id}: ")
    assert not Path("data/runs", run_id).exists()


def test_an_interrupted_run_of_many_seeds_names_their_number_and_range() -> None:
    assert name_seeds((7,)) == "seed 7"
    assert name_seeds((3, 5, 8)) == "seeds 3, 5, 8"
    assert name_seeds(tuple(range(1, 100_001))) == "100,000 seeds, 1 to 100,000"
