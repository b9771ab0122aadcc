"""Aliases: moved by compare-and-swap, in the log of the champion, and kept by every removal."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from mnist_bp.errors import ConfigError, DataFormatError, StoreError
from mnist_bp.registry.aliases import AliasMove, move_alias, remove_alias
from mnist_bp.registry.champion import append, read_log
from mnist_bp.registry.log_entries import entry_key
from mnist_bp.registry.names import resolve_run
from mnist_bp.registry.rollback import roll_back
from mnist_bp.registry.verify import verify
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from mnist_bp.storage.local import LocalStore
from tests.registry.test_challenges import rewrite
from tests.support.faulty_store import FaultyStore
from tests.support.memory_store import MemoryStore
from tests.support.published_runs import promote, publish, put_promotion, run_id_of
from tests.support.race import TIMEOUT_S, run_race


@pytest.fixture
def store() -> MemoryStore:
    """A store with three runs on mnist, of which the first is champion."""
    store = MemoryStore()
    for number in (1, 2, 3):
        publish(store, number)
    assert promote(store, run_id_of(1))
    return store


def test_an_alias_names_a_run_until_it_is_moved_or_removed(store: MemoryStore) -> None:
    assert move_alias(store, run_id_of(2), "best") == AliasMove("best", "mnist", None, run_id_of(2))
    assert resolve_run(store, "best") == resolve_run(store, "best:mnist") == run_id_of(2)
    assert move_alias(store, run_id_of(3), "best") == AliasMove("best", "mnist", run_id_of(2), run_id_of(3))
    assert resolve_run(store, "best") == run_id_of(3)
    assert remove_alias(store, "best") == AliasMove("best", "mnist", run_id_of(3), None)
    with pytest.raises(StoreError, match="no run has the name 'best'"):
        resolve_run(store, "best")


def test_a_move_is_an_entry_of_the_log_with_the_digest_of_the_manifest(store: MemoryStore) -> None:
    move_alias(store, run_id_of(2), "best")
    move_alias(store, run_id_of(3), "next-one")
    log = read_log(store, "mnist")
    assert (log.sequence, log.current and log.current.run_id) == (2, run_id_of(1))
    assert log.aliases == {"best": run_id_of(2), "next-one": run_id_of(3)}
    assert move_alias(store, run_id_of(3), "next-one").run_before == run_id_of(3)
    assert read_log(store, "mnist").sequence == 2, "a move that changes nothing adds no entry"


def test_an_alias_stays_through_promotions_challenges_and_rollbacks(store: MemoryStore) -> None:
    move_alias(store, run_id_of(2), "best")
    assert promote(store, run_id_of(3))
    roll_back(store)
    assert append(store, read_log(store, "mnist").with_pending("delete", "for a test", ("x",)))
    assert resolve_run(store, "best") == run_id_of(2)


@pytest.mark.parametrize(
    ("alias", "problem"),
    [
        (run_id_of(2), "it is the id of a run"),
        ("20261125T07", "expected at most 64"),
        ("a/b", "expected at most 64"),
        ("../best", "expected at most 64"),
        ("Best", "expected at most 64"),
        ("best:mnist", "expected at most 64"),
        ("", "expected at most 64"),
        ("a" * 65, "expected at most 64"),
        ("latest", "neither latest nor champion"),
        ("champion", "neither latest nor champion"),
    ],
)
def test_a_name_that_cannot_be_an_alias_is_refused(alias: str, problem: str, store: MemoryStore) -> None:
    with pytest.raises(ConfigError) as caught:
        move_alias(store, run_id_of(2), alias)
    assert str(caught.value).startswith(f"alias {alias!r}: ")
    assert problem in str(caught.value)
    assert read_log(store, "mnist").sequence == 0


def test_each_dataset_has_its_own_aliases_and_an_ambiguous_one_is_refused(store: MemoryStore) -> None:
    other = publish(store, 4, "kmnist")
    assert promote(store, other, "kmnist")
    move_alias(store, run_id_of(2), "best")
    move_alias(store, other, "best")
    assert (resolve_run(store, "best:mnist"), resolve_run(store, "best:kmnist")) == (run_id_of(2), other)
    expected = r"^best: expected one of best:kmnist, best:mnist$"
    with pytest.raises(ConfigError, match=expected):
        resolve_run(store, "best")
    with pytest.raises(ConfigError, match=expected):
        remove_alias(store, "best")
    remove_alias(store, "best", "kmnist")
    assert resolve_run(store, "best") == run_id_of(2)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda store: None, "no such run"),
        (lambda store: publish(store, 9, manifest=False), "the run is not complete"),
        (lambda store: publish(store, 9, "kmnist"), "kmnist has no champion yet.*mnist-bp rollback"),
    ],
)
def test_a_run_that_cannot_be_kept_gets_no_alias(
    prepare: Callable[[Store], object], message: str, store: MemoryStore
) -> None:
    prepare(store)
    with pytest.raises(StoreError, match=message):
        move_alias(store, run_id_of(9), "best")


def test_a_run_that_is_being_removed_gets_no_alias(store: MemoryStore) -> None:
    assert append(store, read_log(store, "mnist").with_pending("delete", "for a test", (run_id_of(2),)))
    with pytest.raises(StoreError, match="mnist-bp gc is removing it"):
        move_alias(store, run_id_of(2), "best")


def test_a_lost_log_gets_no_alias(store: MemoryStore) -> None:
    put_promotion(store, run_id_of(1), entry=read_log(store, "mnist").reference)
    store.delete(entry_key("mnist", 0))
    with pytest.raises(DataFormatError, match="is missing, expected the entry"):
        move_alias(store, run_id_of(2), "best")
    with pytest.raises(DataFormatError, match="is missing, expected the entry"):
        resolve_run(store, "champion:mnist")


def test_an_entry_about_something_else_in_between_does_not_stop_a_move(store: MemoryStore) -> None:
    overtaken = FaultyStore(store, before={("put", 0): lambda: promote(store, run_id_of(3))})
    move_alias(overtaken, run_id_of(2), "best")
    assert resolve_run(store, "best") == run_id_of(2)
    assert resolve_run(store, "champion") == run_id_of(3)
    overtaken = FaultyStore(store, before={("put", 0): lambda: promote(store, run_id_of(1))})
    remove_alias(overtaken, "best")
    assert read_log(store, "mnist").aliases == {}


@pytest.mark.parametrize(
    "action", [lambda store: move_alias(store, run_id_of(3), "best"), lambda store: remove_alias(store, "best")]
)
def test_a_move_of_the_same_alias_in_between_is_not_overwritten(
    action: Callable[[Store], object], store: MemoryStore
) -> None:
    move_alias(store, run_id_of(2), "best")
    overtaken = FaultyStore(store, before={("put", 0): lambda: move_alias(store, run_id_of(1), "best")})
    with pytest.raises(StoreError, match=f"alias best names {run_id_of(1)}; see mnist-bp alias, and decide again"):
        action(overtaken)
    assert resolve_run(store, "best") == run_id_of(1)


def test_a_run_that_is_collected_while_it_gets_an_alias_does_not_get_it(store: MemoryStore) -> None:
    def collect() -> None:
        for key in [key for key in store.files if run_id_of(2) in key]:
            store.delete(key)
        assert append(store, read_log(store, "mnist").with_pending("deleted", "for a test", ()))

    overtaken = FaultyStore(store, before={("put", 0): collect})
    with pytest.raises(StoreError, match="no such run"):
        move_alias(overtaken, run_id_of(2), "best")
    assert read_log(store, "mnist").aliases == {}


def test_a_store_without_conditional_writes_gets_no_alias_unless_it_is_allowed() -> None:
    store = MemoryStore(conditional=False)
    publish(store, 1)
    assert promote(store, run_id_of(1))
    with pytest.raises(StoreError, match=r"this store ignores conditional writes.*--allow-unsafe-promotion"):
        move_alias(store, run_id_of(1), "best")
    move_alias(store, run_id_of(1), "best", allow_unsafe=True)
    with pytest.raises(StoreError, match="this store ignores conditional writes"):
        remove_alias(store, "best")
    assert remove_alias(store, "best", allow_unsafe=True).run_before == run_id_of(1)


def move_at_once(place: int, barrier: Barrier, address: str) -> str | None:
    """Move an alias to the run of this process's place; return its id, or None if another process was faster."""
    store, run_id = open_store(address), run_id_of(place + 1)
    barrier.wait(TIMEOUT_S)
    try:
        return move_alias(store, run_id, "best").run_after
    except StoreError:
        return None


def test_of_processes_that_move_an_alias_at_the_same_time_the_log_has_every_success(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for number in range(1, 5):
        publish(store, number)
    assert promote(store, run_id_of(1))
    moved = {run_id for run_id in run_race(move_at_once, str(tmp_path), racers=4) if run_id is not None}
    log = read_log(store, "mnist")
    assert moved
    assert log.sequence == len(moved)
    assert log.aliases["best"] in moved


def test_a_restarted_log_keeps_the_aliases_of_the_newest_readable_entry(store: MemoryStore) -> None:
    move_alias(store, run_id_of(2), "best")
    move_alias(store, run_id_of(3), "best")
    promote(store, run_id_of(2))
    store.files[entry_key("mnist", 3)] = (b"damaged", store.files[entry_key("mnist", 3)][1])
    roll_back(store, run_id_of(1), restart_log=True)
    assert resolve_run(store, "best") == run_id_of(3)


def test_a_log_of_the_version_before_aliases_is_read_and_continued(store: MemoryStore) -> None:
    rewrite(store, entry_key("mnist", 0), "entry_version", 2, ("aliases",))
    assert b"aliases" not in store.get(entry_key("mnist", 0))
    assert read_log(store, "mnist").aliases == {}
    move_alias(store, run_id_of(2), "best")
    assert resolve_run(store, "best") == run_id_of(2)


def test_verify_reports_an_alias_of_a_run_that_is_missing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "artifacts")
    for number in (1, 2):
        publish(store, number)
    assert promote(store, run_id_of(1))
    move_alias(store, run_id_of(2), "best")
    assert [check for check in verify(store, tmp_path / "data") if check.bad] == []
    for entry in list(store.list_entries(f"runs/{run_id_of(2)}/")):
        store.delete(entry.key)
    (bad,) = (check for check in verify(store, tmp_path / "data") if check.bad)
    assert (bad.status, bad.uri.endswith(run_id_of(2))) == ("missing", True)
    assert "the alias best of mnist names it" in bad.detail
