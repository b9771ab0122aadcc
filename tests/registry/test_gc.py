"""Garbage collection: only unreferenced runs are removed, whatever happens at the same time, wherever it is killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnist_bp.documents.champion import PromotionOutcome
from mnist_bp.errors import ChecksumError, DataFormatError, StoreError
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS
from mnist_bp.registry.aliases import move_alias
from mnist_bp.registry.catalog import catalog_runs, list_runs, read_manifest
from mnist_bp.registry.champion import append, read_log
from mnist_bp.registry.gc import collect, plan
from mnist_bp.registry.log_entries import entry_key, list_logs
from mnist_bp.registry.retention import RetentionPolicy
from mnist_bp.registry.rollback import roll_back
from mnist_bp.registry.verify import verify
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from mnist_bp.storage.local import LocalStore
from mnist_bp.storage.locks import is_locked, locked
from mnist_bp.storage.reading import sha256_of_bytes
from tests.support.faulty_store import Action, Call, FaultyStore, Killed, die
from tests.support.memory_store import MemoryStore, without_threads
from tests.support.published_runs import age, make_directory, promote, publish, put_promotion, run_id_of
from tests.support.s3_servers import S3Server, few_servers
from tests.support.waiting import HANG_S

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(hours=24)
NOWHERE = Path("no-data-directory")


class Times:
    """A clock that stands still, some hours before `NOW`."""

    def __init__(self, hours: float = 100) -> None:
        self.hours = hours

    def __call__(self) -> datetime:
        return NOW - timedelta(hours=self.hours)


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def store(times: Times) -> MemoryStore:
    return MemoryStore(times)


def with_champion(store: Store, *numbers: int, dataset: str = "mnist") -> list[str]:
    """Publish runs and make each champion in turn."""
    run_ids = [publish(store, number, dataset) for number in numbers]
    assert all(promote(store, run_id, dataset) for run_id in run_ids)
    return run_ids


def runs_in(store: Store) -> list[str]:
    return [run.run_id for run in list_runs(store)]


def gc(store: Any, keep: int = 1, champions: int = 1, data_dir: Path = NOWHERE, grace: timedelta = DAY) -> list[str]:
    """Collect, and return the ids of the removed runs."""
    return [
        removal.run_id for removal in collect(store, data_dir, RetentionPolicy(keep, champions, grace), now=NOW).runs
    ]


def test_the_newest_runs_of_each_dataset_are_kept_and_older_ones_removed(store: MemoryStore) -> None:
    with_champion(store, 9)
    with_champion(store, 8, dataset="kmnist")
    mnist = [publish(store, number) for number in (1, 3, 5)]
    kmnist = [publish(store, number, "kmnist") for number in (2, 4)]
    assert gc(store, keep=2) == sorted([*mnist[:2], kmnist[0]])
    assert runs_in(store) == sorted([mnist[2], kmnist[1], run_id_of(8), run_id_of(9)])
    assert gc(store, keep=2) == []


def test_the_latest_champions_are_kept_and_each_run_is_counted_once(store: MemoryStore) -> None:
    first, second, third = with_champion(store, 1, 2, 3)
    for run_id in (second, third, second):
        assert promote(store, run_id, action="rollback")
    newest = publish(store, 4)
    assert gc(store, keep=1, champions=2) == [first]
    assert runs_in(store) == [second, third, newest]
    assert gc(store, keep=0, champions=1) == [third, newest]


def test_a_run_is_kept_as_long_as_it_has_an_alias(store: MemoryStore) -> None:
    (champion,) = with_champion(store, 9)
    old = [publish(store, number) for number in (1, 2)]
    move_alias(store, old[0], "best")
    policy = RetentionPolicy(0, 1, DAY)
    assert plan(store, NOWHERE, policy, now=NOW).kept[old[0]] == "the alias best of mnist"
    assert gc(store, keep=0) == [old[1]]
    move_alias(store, champion, "best")
    assert gc(store, keep=0) == [old[0]]


def test_runs_younger_than_the_grace_period_are_kept_complete_or_not(store: MemoryStore, times: Times) -> None:
    with_champion(store, 9)
    old = [publish(store, 1), publish(store, 2, manifest=False)]
    times.hours = 23
    young = [publish(store, 3), publish(store, 4, manifest=False)]
    resumed = publish(store, 5, manifest=False)
    put_promotion(store, run_id_of(5))
    times.hours = 100
    assert publish(store, 5, manifest=False) == resumed
    assert gc(store, keep=0) == old
    assert runs_in(store) == [*young, resumed, run_id_of(9)]


def test_a_run_with_a_damaged_manifest_is_kept(store: MemoryStore) -> None:
    with_champion(store, 9)
    run_id = publish(store, 1)
    key = f"{RUNS}{run_id}/{MANIFEST}"
    store.files[key] = store.files[key][0].replace(b"cpu", b"gpu"), store.files[key][1]
    assert gc(store, keep=0) == []
    kept = plan(store, NOWHERE, RetentionPolicy(0, 1, DAY), now=NOW).kept
    assert kept[run_id] == "its manifest is damaged or lost: see mnist-bp verify"


def test_a_run_with_a_lost_manifest_and_its_directory_are_kept(store: MemoryStore, tmp_path: Path) -> None:
    with_champion(store, 9)
    directory = make_directory(tmp_path, run_id_of(1), hours=48)
    run_id = publish(store, 1)
    put_promotion(store, run_id, outcome="kept")
    store.delete(f"{RUNS}{run_id}/{MANIFEST}")
    done = collect(store, tmp_path, RetentionPolicy(0, 1, DAY))
    assert (done.runs, done.directories, directory.exists()) == ((), (), True)
    kept = plan(store, NOWHERE, RetentionPolicy(0, 1, DAY), now=NOW).kept
    assert kept[run_id] == "its manifest is damaged or lost: see mnist-bp verify"


@pytest.mark.parametrize("outcome", ["kept", "refused"])
def test_a_record_that_was_put_while_its_run_was_removed_is_removed_later(
    outcome: PromotionOutcome, store: MemoryStore
) -> None:
    """It is all that is left of the run, so nothing can be restored."""
    with_champion(store, 9)
    put_promotion(store, run_id_of(1), outcome=outcome)
    findings = {check.uri: check.status for check in verify(store, NOWHERE, all_runs=True)}
    assert findings[store.uri(f"{RUNS}{run_id_of(1)}/{MANIFEST}")] == "incomplete"
    assert gc(store, keep=0) == [run_id_of(1)]
    assert runs_in(store) == [run_id_of(9)]


@pytest.mark.parametrize("sequence", [0, 1, 2])
def test_a_damaged_entry_prevents_every_removal(sequence: int, store: MemoryStore) -> None:
    with_champion(store, 1, 2, 3)
    key = entry_key("mnist", sequence)
    store.files[key] = store.files[key][0].replace(b"promote", b"pr0mote"), store.files[key][1]
    with pytest.raises((ChecksumError, DataFormatError), match=rf"0000000{sequence}\.json is damaged|was replaced"):
        gc(store, keep=0)
    assert len(runs_in(store)) == 3


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("lost", [(0, 1), (1,)], ids=["all", "the last"])
def test_a_log_without_an_entry_that_a_record_names_prevents_every_removal(
    lost: tuple[int, ...], conditional: bool, times: Times
) -> None:
    """Without its last entry, a log looks intact: so does an older copy that was put back."""
    store = MemoryStore(times, conditional=conditional)
    former, champion = with_champion(store, 1, 2)
    put_promotion(store, champion, entry=read_log(store, "mnist").reference)
    for sequence in lost:
        store.delete(entry_key("mnist", sequence))
    with pytest.raises(DataFormatError, match=rf"00000001\.json is missing.*record of {champion} names"):
        gc(store, keep=0)
    assert runs_in(store) == [former, champion]
    assert roll_back(store, champion, restart_log=True, allow_unsafe=True)
    assert gc(store, keep=0) == [former]


def test_an_older_copy_with_another_entry_added_since_prevents_every_removal(store: MemoryStore) -> None:
    _, champion = with_champion(store, 1, 2)
    put_promotion(store, champion, entry=read_log(store, "mnist").reference)
    store.delete(entry_key("mnist", 1))
    with_champion(store, 3)
    with pytest.raises(DataFormatError, match=rf"00000001\.json has SHA-256 .*record of {champion} names"):
        gc(store, keep=0)
    assert len(runs_in(store)) == 3


def test_files_without_a_run_id_are_left_alone(store: MemoryStore) -> None:
    for key in ("runs/notes/todo.txt", "runs/stray", "runs/20261123T000001Z/x", "other/file"):
        store.put(key, b"mine", sha256_of_bytes(b"mine"))
    assert gc(store, keep=0) == []
    assert len(store.files) == 4


@pytest.mark.parametrize("conditional", [True, False])
def test_a_dataset_without_a_champion_loses_no_complete_run_and_gets_no_log(conditional: bool, times: Times) -> None:
    store = MemoryStore(times, conditional=conditional)
    complete, unfinished = publish(store, 1), publish(store, 2, manifest=False)
    assert gc(store, keep=0) == [unfinished]
    assert runs_in(store) == [complete]
    assert list_logs(store) == []


def test_without_conditional_writes_runs_are_removed_and_the_log_gets_no_entry(times: Times) -> None:
    store = MemoryStore(times, conditional=False)
    old, champion = with_champion(store, 1, 2)
    before = read_log(store, "mnist")
    assert gc(store, keep=0) == [old]
    assert runs_in(store) == [champion]
    assert read_log(store, "mnist") == before


def test_a_run_made_under_a_clock_in_the_future_is_not_one_of_the_newest(store: MemoryStore, times: Times) -> None:
    with_champion(store, 9)
    older, newer = publish(store, 1), publish(store, 2)
    future = publish(store, "21500101T000000Z-00000000")
    assert gc(store, keep=2) == [older, future], "the store's clock dates its files, which are old"
    assert newer in runs_in(store)
    times.hours = -24 * 365 * 100
    publish(store, future)
    kept = plan(store, NOWHERE, RetentionPolicy(2, 1, DAY), now=NOW).kept
    assert kept[future] == "its files are dated in the future, 2126-10-31: check the clocks"


def test_planning_changes_nothing_and_returns_what_collecting_removes(store: MemoryStore, tmp_path: Path) -> None:
    old, champion = with_champion(store, 1, 2)
    make_directory(tmp_path, run_id_of(3), hours=48)
    before = dict(store.files)
    rules = RetentionPolicy(0, 1, DAY)
    planned = plan(store, tmp_path, rules)
    assert store.files == before
    assert (tmp_path / "runs" / run_id_of(3)).exists()
    assert collect(store, tmp_path, rules) == planned
    (removal,) = planned.runs
    assert (removal.run_id, removal.files, removal.why) == (old, 6, "not one of the newest 0 of mnist")
    assert planned.kept == {champion: "the champion of mnist"}


def test_a_run_is_fenced_before_its_first_file_is_deleted_until_after_the_last(store: MemoryStore) -> None:
    old, _ = with_champion(store, 1, 2)
    put_promotion(store, old)
    states = []

    def look() -> None:
        files = {key.removeprefix(f"{RUNS}{old}/") for key in store.files if key.startswith(f"{RUNS}{old}/")}
        states.append((files, old in read_log(store, "mnist").pending_deletion))

    gc(FaultyStore(store, check=look), keep=0)
    assert max(len(files) for files, fenced in states if fenced) == 7
    for files, fenced in states:
        assert (PROMOTION in files) == (len(files) == 7), "the record goes first"
        assert (MANIFEST in files) == (len(files) >= 6), "then the manifest"
        assert fenced or len(files) in (0, 7)
    assert states[-1] == (set(), False)


def test_a_removal_that_was_started_is_finished_even_if_more_runs_must_be_kept_now(store: MemoryStore) -> None:
    old, champion = with_champion(store, 1, 2)
    assert append(store, read_log(store, "mnist").with_pending("delete", "for a test", (old, run_id_of(7))))
    store.delete(f"{RUNS}{old}/model.safetensors")
    assert gc(store, keep=5, champions=5) == [old]
    assert runs_in(store) == [champion]
    assert read_log(store, "mnist").pending_deletion == ()


def test_a_champion_is_kept_even_if_its_log_lists_it_in_pending_deletion(store: MemoryStore) -> None:
    _, champion = with_champion(store, 1, 2)
    assert append(store, read_log(store, "mnist").with_pending("delete", "for a test", (champion,)))
    assert gc(store, keep=0) == [run_id_of(1)]
    assert runs_in(store) == [champion]


def test_a_run_that_is_published_again_in_the_meantime_is_kept_and_reported(store: MemoryStore, times: Times) -> None:
    with_champion(store, 9)
    run_id = publish(store, 1, manifest=False)

    def resume() -> None:
        times.hours = 0
        publish(store, 1)

    looked = FaultyStore(store)
    plan(looked, NOWHERE, RetentionPolicy(0, 1, DAY), now=NOW)
    done = collect(FaultyStore(store, before={len(looked.calls): resume}), NOWHERE, RetentionPolicy(0, 1, DAY), now=NOW)
    assert (done.runs, done.in_use) == ((), (run_id,))
    read_manifest(store, run_id)


def test_if_champions_keep_changing_nothing_is_removed(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_bp.registry.champion.time.sleep", lambda _: None)
    with_champion(store, 1, 2, 3)
    numbers = count()
    put = store.put

    def lose(key: str, source: Path | bytes, sha256: str) -> None:
        store.put = put  # type: ignore[method-assign]
        promote(store, run_id_of(2 + next(numbers) % 2), action="rollback")
        store.put = lose  # type: ignore[method-assign]
        put(key, source, sha256)

    store.put = lose  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="champions kept changing"):
        gc(store, keep=0)
    assert len(runs_in(store)) == 3


# ---------------------------------------------------------------------------------------------------------------------
# at the same time


class World:
    """A store, everything that was ever published in it, and what must be true of it at any moment."""

    def __init__(self, rules: RetentionPolicy) -> None:
        self.times = Times()
        self.store = MemoryStore(self.times)
        self.rules = rules
        self.complete: dict[str, str] = {}
        self.young: set[str] = set()
        self.numbers = count(1)

    def publish(self, dataset: str, hours: float = 0, *, manifest: bool = True) -> None:
        self.times.hours = hours
        number = next(self.numbers)
        run_id = publish(self.store, number, dataset, steps=(10,), size=3, manifest=manifest)
        if manifest:
            self.complete[run_id] = dataset
        if hours < 24:
            self.young |= {key for key in self.store.files if key.startswith(f"{RUNS}{run_id}/")}
        self.times.hours = 0

    def promote(self, place: int) -> None:
        """Make one of all runs champion, unless it has been or is being removed."""
        run_id, dataset = list(self.complete.items())[place % len(self.complete)]
        with contextlib.suppress(StoreError):
            promote(self.store, run_id, dataset)

    def alias(self, place: int, name: str) -> None:
        """Let an alias name one of all runs, unless it has been or is being removed, or has no champion to follow."""
        run_id, _ = list(self.complete.items())[place % len(self.complete)]
        with contextlib.suppress(StoreError):
            move_alias(self.store, run_id, name)

    def collect(self) -> None:
        collect(self.store, NOWHERE, self.rules, now=NOW)

    def protected(self) -> set[str]:
        """All runs that must be kept now, according to what was published and not to what the store contains."""
        protected: set[str] = set()
        for dataset in set(self.complete.values()):
            ours = sorted((run_id for run_id, name in self.complete.items() if name == dataset), reverse=True)
            history = [change.run_id for change in reversed(read_log(self.store, dataset).champions)]
            protected |= {*ours[: self.rules.keep], *list(dict.fromkeys(history))[: self.rules.keep_champions]}
            protected |= set() if history else set(ours)
            protected |= set(read_log(self.store, dataset).aliases.values())
        return protected

    def check(self) -> None:
        for run_id in self.protected():
            assert f"{RUNS}{run_id}/{MANIFEST}" in self.store.files, f"{run_id} was protected, and is missing"
        assert self.young <= self.store.files.keys()
        for run in list_runs(self.store):
            if run.complete:
                manifest, _ = read_manifest(self.store, run.run_id)
                assert manifest.files.keys() <= run.files.keys(), "a manifest names a missing file"


DATASET = st.sampled_from(["mnist", "kmnist"])
AT_FIRST = st.lists(st.tuples(DATASET, st.sampled_from([1, 48]), st.integers(0, 9).map(bool)), min_size=1, max_size=8)
PLACE = st.integers(0, 12)
EVENTS = st.dictionaries(
    st.integers(0, 70),
    st.one_of(
        st.tuples(st.just("promote"), PLACE),
        st.tuples(st.just("alias"), PLACE, st.sampled_from(["best", "other"])),
        st.tuples(st.just("publish"), DATASET),
        st.tuples(st.just("collect")),
        st.tuples(st.just("die")),
    ),
    max_size=8,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 3), st.integers(1, 3), AT_FIRST, st.lists(PLACE, max_size=5), EVENTS)
def test_no_referenced_run_is_removed_whatever_happens_at_any_call(
    keep: int,
    champions: int,
    runs: list[tuple[str, int, bool]],
    promotions: list[int],
    events: dict[int, tuple[Any, ...]],
) -> None:
    world = World(RetentionPolicy(keep, champions, DAY))
    for dataset, hours, manifest in runs:
        world.publish(dataset, hours, manifest=manifest)
    for place in promotions if world.complete else ():
        world.promote(place)
    actions: dict[Call, Action] = {}
    for call, (kind, *arguments) in events.items():
        if kind not in ("promote", "alias") or world.complete:
            actions[call] = partial(getattr(world, kind), *arguments) if kind != "die" else die
    with pytest.MonkeyPatch.context() as patch:
        without_threads(patch)
        patch.setattr("mnist_bp.registry.champion.time.sleep", lambda _: None)
        store = FaultyStore(world.store, before=actions, check=world.check)
        with contextlib.suppress(Killed):
            collect(store, NOWHERE, world.rules, now=NOW)
        world.check()
        world.collect()  # finishes what was begun, and finds all that can go
        world.check()
    complete = {run.listed.run_id for run in catalog_runs(world.store) if run.manifest}
    young = {key.split("/")[1] for key in world.young}
    assert complete <= world.protected() | young
    assert set(runs_in(world.store)) == complete | {run_id for run_id in young if run_id not in complete}
    assert not any(read_log(world.store, dataset).pending_deletion for dataset in list_logs(world.store))


def old_runs_and_champions() -> MemoryStore:
    store = MemoryStore(Times())
    with_champion(store, 1, 2, 3)
    publish(store, 4)
    publish(store, 5, manifest=False)
    return store


def test_a_collection_killed_at_any_call_leaves_complete_runs_to_readers_and_the_next_one_finishes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_threads(monkeypatch)
    undisturbed = FaultyStore(old_runs_and_champions())
    removed = gc(undisturbed, keep=0, champions=2)
    assert removed == [run_id_of(1), run_id_of(4), run_id_of(5)]
    for number in range(len(undisturbed.calls)):
        store = old_runs_and_champions()
        with pytest.raises(Killed):
            gc(FaultyStore(store, before={number: die}), keep=0, champions=2)
        for run in catalog_runs(store):
            if run.manifest:
                assert run.manifest.files.keys() <= run.listed.files.keys(), f"killed at call {number}"
        fenced = read_log(store, "mnist").pending_deletion
        assert not set(fenced) & {run_id_of(2), run_id_of(3)}
        gc(store, keep=9, champions=9)  # finishes what was begun, and only that
        left = set(runs_in(store))
        assert left in ({run_id_of(2), run_id_of(3)}, {run_id_of(n) for n in range(1, 5)}), f"killed at call {number}"
        assert read_log(store, "mnist").pending_deletion == ()


def test_readers_find_complete_champions_during_promotions_rollbacks_and_collections(tmp_path: Path) -> None:
    """Threads on real files: a reader of the champion finds its complete run, or that the champion has changed."""
    store = LocalStore(tmp_path)
    run_ids = [publish(store, number, steps=(10,)) for number in range(60)]
    for path in tmp_path.rglob("*"):  # older than the grace period, unlike files written during the test
        os.utime(path, (time.time() - 3_600,) * 2)
    assert promote(store, run_ids[0])
    changed, problems, promoted, grace = threading.Event(), [], count(), timedelta(minutes=1)

    def change(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(150):
            with contextlib.suppress(StoreError):  # it has been removed
                if promote(store, draw.choice(run_ids), action=draw.choice(["promote", "rollback"])):
                    next(promoted)

    def read() -> None:
        while not changed.is_set():
            champion = read_log(store, "mnist")
            assert champion.current is not None
            try:
                run_id, sha256 = champion.current.run_id, champion.current.manifest_sha256
                manifest, _ = read_manifest(store, run_id, sha256)
                for name, file in manifest.files.items():
                    store.get(f"{RUNS}{run_id}/{name}", file.sha256)
            except StoreError as exc:
                if read_log(store, "mnist").current == champion.current:
                    problems.append(exc)

    def clean() -> None:
        for keep in chain(range(40, 0, -3), repeat(0)):
            if changed.is_set():
                return
            try:
                collect(store, NOWHERE, RetentionPolicy(keep, 2, grace))
            except StoreError as exc:
                if "champions kept changing" not in str(exc):
                    raise

    with ThreadPoolExecutor(5) as threads:
        changes = [threads.submit(change, seed) for seed in (1, 2)]
        others = [threads.submit(each) for each in (read, clean, clean)]
        wait(changes)
        changed.set()
        for each in (*changes, *others):
            each.result()
    assert problems == []
    assert next(promoted) > 1
    assert len(runs_in(store)) < len(run_ids)
    collect(store, NOWHERE, RetentionPolicy(0, 2, grace))
    assert len(runs_in(store)) <= 3


# ---------------------------------------------------------------------------------------------------------------------
# real servers


@pytest.mark.parametrize("s3_server", few_servers(), indirect=True)
def test_more_runs_than_one_page_of_a_listing_are_collected(s3_server: S3Server, s3_bucket: str, s3_admin: Any) -> None:
    source = MemoryStore()
    for number in range(150):
        publish(source, number, steps=(10, 20, 30), size=10)
    assert len(source.files) > 1_000
    with ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                lambda key: s3_admin.put_object(Bucket=s3_bucket, Key=f"some/{key}", Body=source.files[key][0]),
                source.files,
            )
        )
    store = open_store(f"s3://{s3_bucket}/some")
    assert promote(store, run_id_of(5))
    later = datetime.now(UTC) + timedelta(hours=1)
    done = collect(store, NOWHERE, RetentionPolicy(3, 1, timedelta()), now=later)
    kept = [run_id_of(number) for number in (5, 147, 148, 149)]
    assert runs_in(store) == kept
    assert len(done.runs) == 150 - len(kept)
    assert all(len(run.files) == 7 for run in list_runs(store))
    assert read_log(store, "mnist").pending_deletion == ()


# ---------------------------------------------------------------------------------------------------------------------
# directories of runs on this machine


def hold_lock(directory: Path, held: Any, done: Any) -> None:
    with locked(directory):
        held.set()
        done.wait(HANG_S)


@contextlib.contextmanager
def another_process_working_on(directory: Path) -> Iterator[None]:
    """Let another process hold a run's lock."""
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    process = context.Process(target=hold_lock, args=(directory, held, done))
    process.start()
    try:
        assert held.wait(HANG_S)
        yield
    finally:
        done.set()
        process.join()


def test_old_run_directories_are_removed_unless_the_run_is_among_the_newest(store: MemoryStore, tmp_path: Path) -> None:
    with_champion(store, 1, 2)
    for number, hours in ((1, 48), (2, 48), (3, 48), (4, 1)):
        make_directory(tmp_path, run_id_of(number), hours)
    (tmp_path / "runs" / "notes").mkdir()
    done = collect(store, tmp_path, RetentionPolicy(1, 1, DAY))
    assert {removal.run_id: removal.why for removal in done.directories} == {
        run_id_of(1): "the run is published",
        run_id_of(3): "older than the grace period, and not published to this store",
    }
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [run_id_of(2), run_id_of(4), "notes"]


def test_the_directory_of_a_published_run_is_kept_until_the_run_is_decided(store: MemoryStore, tmp_path: Path) -> None:
    run_id = publish(store, 1)
    directory = make_directory(tmp_path, run_id, 48)
    rules = RetentionPolicy(0, 1, DAY)
    assert collect(store, tmp_path, rules).directories == ()
    put_promotion(store, run_id, outcome="kept")
    collect(store, tmp_path, rules)
    assert not directory.exists()


def test_a_run_in_progress_is_kept_with_its_directory(store: MemoryStore, tmp_path: Path) -> None:
    with_champion(store, 9)
    run_id = publish(store, 1, manifest=False)
    directory = make_directory(tmp_path, run_id, 48)
    with another_process_working_on(directory):
        assert is_locked(directory)
        done = collect(store, tmp_path, RetentionPolicy(0, 1, DAY))
        assert (done.runs, done.directories) == ((), ())
        assert done.kept[run_id] == "it is in progress on this machine"
    assert not is_locked(directory)
    done = collect(store, tmp_path, RetentionPolicy(0, 1, DAY))
    assert [removal.run_id for removal in (*done.runs, *done.directories)] == [run_id, run_id]
    assert not directory.exists()


def test_a_run_that_is_resumed_at_the_last_moment_is_kept_with_its_directory(
    store: MemoryStore, tmp_path: Path
) -> None:
    with_champion(store, 9)
    run_id = publish(store, 1, manifest=False)
    directory = make_directory(tmp_path, run_id, 48)
    with contextlib.ExitStack() as stack:
        resume = partial(stack.enter_context, another_process_working_on(directory))
        resumed = FaultyStore(store, before={("remove_leftovers", 0): resume})  # after everything is planned
        done = collect(resumed, tmp_path, RetentionPolicy(0, 1, DAY))
    assert (done.runs, done.directories, done.in_use) == ((), (), (run_id,))
    assert directory.exists()
    assert run_id in runs_in(store)


def test_an_interrupted_removal_of_a_directory_is_finished(store: MemoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path, f".removed-{run_id_of(1)}", 48)
    assert [each.run_id for each in collect(store, tmp_path, RetentionPolicy(1, 1, DAY)).directories] == [run_id_of(1)]
    assert list((tmp_path / "runs").iterdir()) == []


def test_temporary_files_of_dead_processes_are_removed_and_those_of_live_ones_kept(tmp_path: Path) -> None:
    store, data_dir = LocalStore(tmp_path / "artifacts"), tmp_path / "data"
    (run_id,) = with_champion(store, 1)
    for directory in (tmp_path / "artifacts" / RUNS / run_id, data_dir / "parquet" / "mnist-0123"):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".dead.0a1b2c3d.tmp").write_bytes(b"half")
        age(directory, 48)
        (directory / ".alive.0a1b2c3d.tmp").write_bytes(b"half")
    done = collect(store, data_dir, RetentionPolicy(1, 1, DAY))
    assert [Path(uri).name for uri in done.leftovers] == [".dead.0a1b2c3d.tmp"] * 2
    assert sorted(path.name for path in tmp_path.rglob("*.tmp")) == [".alive.0a1b2c3d.tmp"] * 2
