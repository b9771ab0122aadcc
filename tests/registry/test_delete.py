"""The deletion of one run: what it refuses, and that nothing that has a name is lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from mnist_bp.errors import ChecksumError, StoreError
from mnist_bp.layout import MANIFEST, run_key
from mnist_bp.registry.aliases import move_alias
from mnist_bp.registry.catalog import catalog_runs, list_runs
from mnist_bp.registry.champion import append, read_log
from mnist_bp.registry.delete import Deletion, delete_run, plan_deletion
from mnist_bp.registry.gc import collect
from mnist_bp.registry.log_entries import entry_key
from mnist_bp.registry.names import resolve_run
from mnist_bp.registry.retention import RetentionPolicy
from mnist_bp.storage.interface import Store
from mnist_bp.training.workspace import lock_run
from tests.support.faulty_store import FaultyStore, Killed, die
from tests.support.memory_store import MemoryStore, without_threads
from tests.support.published_runs import make_directory, promote, publish, put_promotion, run_id_of

ARTIFACTS = "memory://"


def two_runs(clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> MemoryStore:
    """Return a store with a champion and another decided run, published just now by default."""
    store = MemoryStore(clock)
    for number in (1, 2):
        publish(store, number)
        put_promotion(store, run_id_of(number))
    assert promote(store, run_id_of(1))
    return store


@pytest.fixture
def store() -> MemoryStore:
    return two_runs()


def delete(store: Store, number: int, data_dir: Path) -> Deletion:
    return delete_run(store, ARTIFACTS, data_dir, run_id_of(number))


def runs_in(store: Store) -> list[str]:
    return [run.run_id for run in list_runs(store)]


def test_a_run_is_deleted_however_young_with_its_directory(store: MemoryStore, tmp_path: Path) -> None:
    directory, other = (make_directory(tmp_path, run_id_of(number)) for number in (2, 1))
    done = delete(store, 2, tmp_path)
    assert (done.uri, done.directory and done.directory.path) == (f"memory://runs/{run_id_of(2)}", directory)
    assert not [key for key in store.files if run_id_of(2) in key]
    assert not directory.exists()
    assert other.exists()
    assert runs_in(store) == [run_id_of(1)]
    log = read_log(store, "mnist")
    assert (log.current and log.current.run_id, log.pending_deletion, log.sequence) == (run_id_of(1), (), 2)


def test_a_plan_changes_nothing(store: MemoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path, run_id_of(2), files=3)
    before = dict(store.files)
    plan = plan_deletion(store, ARTIFACTS, tmp_path, run_id_of(2))
    assert (plan.files, plan.manifest and plan.manifest.run_id, plan.former_champion) == (7, run_id_of(2), False)
    assert plan.directory is not None
    assert plan.directory.files == 3
    assert store.files == before
    assert promote(store, run_id_of(2))
    assert plan_deletion(store, ARTIFACTS, tmp_path, run_id_of(1)).former_champion
    publish(store, 3)
    assert promote(store, run_id_of(3))  # a rollback would now restore run 2
    formers = [plan_deletion(store, ARTIFACTS, tmp_path, run_id_of(number)).former_champion for number in (1, 2)]
    assert formers == [False, True]


def test_a_champion_and_a_run_with_an_alias_are_refused(store: MemoryStore, tmp_path: Path) -> None:
    move_alias(store, run_id_of(2), "best")
    move_alias(store, run_id_of(2), "also")
    directories = [make_directory(tmp_path, run_id_of(number)) for number in (1, 2)]
    before = dict(store.files)
    with pytest.raises(StoreError, match=f"{run_id_of(1)} is the champion of mnist, and is not deleted: make another"):
        delete(store, 1, tmp_path)
    with pytest.raises(StoreError, match=f"{run_id_of(2)} has the aliases also and best, and is not deleted: move"):
        delete(store, 2, tmp_path)
    assert store.files == before
    assert all(directory.exists() for directory in directories)


def test_a_run_in_progress_on_this_machine_is_refused(store: MemoryStore, tmp_path: Path) -> None:
    directory = make_directory(tmp_path, run_id_of(2))
    with lock_run(directory), pytest.raises(StoreError, match="a process is working on this run"):
        plan_deletion(store, ARTIFACTS, tmp_path, run_id_of(2))  # before the user is asked
    with lock_run(directory), pytest.raises(StoreError, match="a process is working on this run"):
        delete(store, 2, tmp_path)
    assert directory.exists()
    assert run_id_of(2) in runs_in(store)


def test_a_process_that_starts_after_the_question_keeps_its_run(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make_directory(tmp_path, run_id_of(2))
    with lock_run(directory):
        monkeypatch.setattr("mnist_bp.training.workspace.is_locked", lambda _: False)  # as it was a moment ago
        with pytest.raises(StoreError, match="a process is working on this run"):
            delete(store, 2, tmp_path)
    assert directory.exists()
    assert run_id_of(2) in runs_in(store)


@pytest.mark.parametrize("manifest", [True, False])
def test_a_young_unfinished_run_without_a_directory_here_may_be_in_progress_elsewhere(
    manifest: bool, store: MemoryStore, tmp_path: Path
) -> None:
    publish(store, 3, manifest=manifest)
    with pytest.raises(StoreError, match="younger than 24 hours: a process on another machine may be working on it"):
        delete(store, 3, tmp_path)
    plan_deletion(store, ARTIFACTS, tmp_path, run_id_of(3), datetime.now(UTC) + timedelta(hours=25))
    make_directory(tmp_path, run_id_of(3))
    delete(store, 3, tmp_path)
    assert runs_in(store) == [run_id_of(1), run_id_of(2)]


def test_an_unfinished_run_is_deleted_with_nothing_published(store: MemoryStore, tmp_path: Path) -> None:
    directory, before = make_directory(tmp_path, run_id_of(3)), dict(store.files)
    assert delete(store, 3, tmp_path).uri is None
    assert not directory.exists()
    assert store.files == before


def test_an_unknown_run_is_refused_with_the_nearest_ids(store: MemoryStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"no such run; the nearest are {run_id_of(2)}"):
        delete(store, 3, tmp_path)


def test_a_run_with_a_damaged_manifest_is_deleted(store: MemoryStore, tmp_path: Path) -> None:
    key = run_key(run_id_of(2), MANIFEST)
    store.files[key] = (b"damaged", store.files[key][1])
    delete(store, 2, tmp_path)
    assert runs_in(store) == [run_id_of(1)]


def test_a_damaged_log_prevents_the_deletion_of_every_run(store: MemoryStore, tmp_path: Path) -> None:
    key = entry_key("mnist", 0)
    content, time = store.files[key]
    store.files[key] = (content.replace(b"for a test", b"for a tesT"), time)
    with pytest.raises(ChecksumError):
        delete(store, 2, tmp_path)
    assert runs_in(store) == [run_id_of(1), run_id_of(2)]


@pytest.mark.parametrize("name", ["champion", "best"])
def test_a_promotion_or_an_alias_at_any_moment_keeps_the_run_whole_or_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_threads(monkeypatch)

    def choose(store: Store) -> None:
        try:
            if name == "best":
                move_alias(store, run_id_of(2), "best")
                chosen.append(True)
            else:
                chosen.append(promote(store, run_id_of(2)) is not None)
        except StoreError:
            chosen.append(False)

    outcomes = set()
    for call in count():
        store, chosen = two_runs(), list[bool]()
        disturbed = FaultyStore(store, before={call: partial(choose, store)})
        try:
            delete(disturbed, 2, tmp_path)
            deleted = True
        except StoreError:
            deleted = False
        if call >= len(disturbed.calls):
            break
        assert chosen == [not deleted], f"at call {call}"
        assert (run_id_of(2) in runs_in(store)) == (not deleted)
        assert all(run.manifest for run in catalog_runs(store))
        assert deleted or resolve_run(store, name) == run_id_of(2)
        assert read_log(store, "mnist").pending_deletion == ()
        outcomes.add(deleted)
    assert outcomes == {True, False}


def test_an_entry_about_another_run_in_between_does_not_stop_a_deletion(store: MemoryStore, tmp_path: Path) -> None:
    publish(store, 3)
    delete(FaultyStore(store, before={("put", 0): lambda: promote(store, run_id_of(3))}), 2, tmp_path)
    assert runs_in(store) == [run_id_of(1), run_id_of(3)]
    assert resolve_run(store, "champion") == run_id_of(3)


def test_a_deletion_killed_at_any_call_leaves_complete_runs_and_the_next_collection_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_threads(monkeypatch)

    undisturbed = FaultyStore(two_runs(lambda: datetime(2026, 11, 24, tzinfo=UTC)))
    delete(undisturbed, 2, tmp_path)
    for number in range(len(undisturbed.calls)):
        store = two_runs(lambda: datetime(2026, 11, 24, tzinfo=UTC))
        with pytest.raises(Killed):
            delete(FaultyStore(store, before={number: die}), 2, tmp_path)
        for run in catalog_runs(store):
            if run.manifest:
                assert run.manifest.files.keys() <= run.listed.files.keys(), f"killed at call {number}"
        started = not all(run.manifest for run in catalog_runs(store)) or bool(
            read_log(store, "mnist").pending_deletion
        )
        collect(store, tmp_path, RetentionPolicy(9), now=datetime(2026, 11, 30, tzinfo=UTC))
        assert (run_id_of(2) not in runs_in(store)) == (started or number == len(undisturbed.calls) - 1)
        assert read_log(store, "mnist").pending_deletion == ()


def test_the_only_run_of_a_dataset_without_a_champion_is_fenced_too(store: MemoryStore, tmp_path: Path) -> None:
    publish(store, 3, "kmnist")
    put_promotion(store, run_id_of(3), "kmnist", outcome="refused")
    delete(store, 3, tmp_path)
    log = read_log(store, "kmnist")
    assert (log.sequence, log.current, log.pending_deletion) == (1, None, ())
    publish(store, 4, "kmnist")
    entry = log.with_champion("promote", run_id_of(4), "0" * 64, "for a test")
    assert append(store, entry)
    assert resolve_run(store, "champion:kmnist") == run_id_of(4)
