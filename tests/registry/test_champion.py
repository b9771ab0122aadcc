"""The log of a champion: what readers refuse, and how many requests the commands make as a store grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from mnist_bp.cli.champion import report_on
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError, DataFormatError, StoreError
from mnist_bp.registry.aliases import move_alias
from mnist_bp.registry.champion import append, read_history, read_log, read_logs
from mnist_bp.registry.champion_state import MAX_CHAMPIONS, ChampionLog
from mnist_bp.registry.comparison import read_published_model
from mnist_bp.registry.gate import GateSettings, decide
from mnist_bp.registry.log_entries import entry_key, list_logs
from mnist_bp.registry.names import resolve_run
from mnist_bp.registry.nightly import days_of, find_identical_run, recent_nights
from mnist_bp.registry.promotion_record import read_promotion
from mnist_bp.registry.rollback import roll_back
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.interface import PAGE_SIZE, Entry, Store
from mnist_bp.storage.reading import sha256_of_bytes
from tests.support.challenges import LABELS, challenge, publish_model
from tests.support.memory_store import MemoryStore
from tests.support.published_runs import changes, promote, publish, put_promotion, run_id_of


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def with_changes(store: Store, number: int) -> None:
    """Promote runs in turn."""
    for each in range(number):
        assert promote(store, publish(store, each, steps=(10,)))


def edit(store: MemoryStore, number: int, **values: object) -> None:
    """Change an entry, and give it the right checksum."""
    key = entry_key("mnist", number)
    document = checksummed_json.loads(store.get(key), "", "")
    store.delete(key)
    content = checksummed_json.dumps({**document, **values})
    store.put(key, content, sha256_of_bytes(content))


def test_an_empty_log_has_no_champion(store: MemoryStore) -> None:
    assert read_log(store, "mnist").current is None
    assert list_logs(store) == []


def test_an_entry_is_added_once_and_the_loser_reads_the_log_again(store: MemoryStore) -> None:
    with_changes(store, 1)
    log = read_log(store, "mnist")
    first, second = (log.with_champion("rollback", run_id_of(0), "0" * 64, why) for why in ("first", "second"))
    after = append(store, first)
    assert after == read_log(store, "mnist")
    assert append(store, second) is None
    assert append(store, first) == after, "its own entry, of which the reply was lost"
    assert [entry.reason for entry in changes(store)] == ["for a test", "first"]


@pytest.mark.parametrize("missing", [0, 2, 3])
def test_no_reader_builds_on_a_log_with_a_gap(missing: int, store: MemoryStore) -> None:
    with_changes(store, 5)
    store.delete(entry_key("mnist", missing))
    with pytest.raises(DataFormatError, match=rf"0000000{missing}\.json is missing, and later entries exist; restore"):
        read_log(store, "mnist")
    assert_nothing_is_built_on(store)


def test_no_reader_builds_on_a_head_that_does_not_continue_the_entry_before_it(store: MemoryStore) -> None:
    """As after a race on a store that creates a key twice: the second writer replaced the entry of the first."""
    with_changes(store, 5)
    edit(store, 3, nonce="of the other writer")
    with pytest.raises(DataFormatError, match=r"00000004\.json continues an entry 3 .*: one of the two was replaced"):
        read_log(store, "mnist")
    assert_nothing_is_built_on(store)


def test_an_entry_deep_in_the_log_that_was_replaced_is_found_by_reading_all_of_it(store: MemoryStore) -> None:
    with_changes(store, 5)
    edit(store, 1, nonce="of the other writer")
    with pytest.raises(DataFormatError, match=r"00000002\.json continues an entry 1 "):
        read_history(store, read_log(store, "mnist"))


@pytest.mark.parametrize("values", [{"sequence": 7}, {"dataset": "kmnist"}, {"start": 9}])
def test_an_entry_in_the_wrong_place_is_refused(values: dict[str, object], store: MemoryStore) -> None:
    with_changes(store, 5)
    edit(store, 4, **values)
    with pytest.raises(DataFormatError, match="expected entry 4 of mnist"):
        read_log(store, "mnist")


def assert_nothing_is_built_on(store: MemoryStore) -> None:
    """Check that a broken log stays as it is until it is restarted."""
    before = dict(store.files)
    run = publish_model(store, "better", 900)
    assert challenge(store, run).outcome == "refused"
    with pytest.raises(DataFormatError):
        roll_back(store, "better")
    assert read_logs(store)[0] == []
    logs = {key for key in store.files if key.startswith("champion/")}
    assert logs == {key for key in before if key.startswith("champion/")}
    assert roll_back(store, "better", restart_log=True).champion_after == "better"
    assert [(entry.action, entry.sequence, entry.start) for entry in changes(store)] == [("restart", 5, 5)]
    assert challenge(store, publish_model(store, "best", 999)).champion_before == "better"


def test_a_restart_keeps_the_runs_that_are_being_removed(store: MemoryStore) -> None:
    with_changes(store, 3)
    assert append(store, read_log(store, "mnist").with_pending("delete", "for a test", (run_id_of(0),)))
    store.delete(entry_key("mnist", 1))
    with pytest.raises(StoreError, match="mnist-bp gc is removing it"):
        roll_back(store, run_id_of(0), restart_log=True)
    roll_back(store, run_id_of(2), restart_log=True)
    assert read_log(store, "mnist").pending_deletion == (run_id_of(0),)


def test_an_intact_log_is_not_restarted(store: MemoryStore) -> None:
    with_changes(store, 2)
    with pytest.raises(ConfigError, match="is intact: roll back without --restart-log"):
        roll_back(store, run_id_of(0), restart_log=True)
    assert len(changes(store)) == 2


def test_an_entry_with_an_absurd_number_costs_no_memory_and_is_not_continued(store: MemoryStore) -> None:
    with_changes(store, 2)
    log = replace(read_log(store, "mnist"), sequence=99_999_998)
    assert append(store, log.with_champion("rollback", run_id_of(0), "0" * 64, "for a test"))
    with pytest.raises(DataFormatError, match=r"00000002\.json is missing"):
        read_log(store, "mnist")
    with pytest.raises(DataFormatError, match="has the last number that an entry can have: delete it"):
        roll_back(store, run_id_of(0), restart_log=True)
    store.delete(entry_key("mnist", 99_999_999))
    assert read_log(store, "mnist").sequence == 1


def test_entries_that_are_added_during_a_listing_are_no_gap(store: MemoryStore) -> None:
    """The listing of a large directory may have an entry and not the one before it."""
    with_changes(store, 3)
    listed, skipped = store.list_entries, [entry_key("mnist", 1)]

    def skip_once(prefix: str = "", page_size: int = PAGE_SIZE) -> Iterator[Entry]:
        hidden = skipped.pop() if skipped else None
        return (entry for entry in list(listed(prefix, page_size)) if entry.key != hidden)

    store.list_entries = skip_once  # type: ignore[method-assign]
    assert read_log(store, "mnist").sequence == 2


def test_an_entry_that_was_replaced_makes_no_record(store: MemoryStore) -> None:
    with_changes(store, 4)
    edit(store, 1, run_id="another")
    promotion = challenge(store, read_published_model(store, run_id_of(1)))
    assert (promotion.outcome, "was replaced; restore it" in promotion.reason) == ("refused", True)


def test_an_entry_repeats_the_last_champions_only(store: MemoryStore) -> None:
    with_changes(store, MAX_CHAMPIONS + 3)
    log = read_log(store, "mnist")
    assert [change.sequence for change in log.champions] == list(range(3, MAX_CHAMPIONS + 3))
    assert len(changes(store)) == MAX_CHAMPIONS + 3


def test_other_files_next_to_a_log_are_no_entries(store: MemoryStore) -> None:
    with_changes(store, 2)
    for key in ("champion/mnist/notes.txt", "champion/mnist/00000009.json.bak", "champion/mnist-sample/00000000.json"):
        store.put(key, b"x", sha256_of_bytes(b"x"))
    assert read_log(store, "mnist").sequence == 1
    assert list_logs(store) == ["mnist", "mnist-sample"]


def test_the_champion_file_of_an_older_version_is_refused_in_one_line(store: MemoryStore) -> None:
    store.put("champion/mnist.json", b"{}", sha256_of_bytes(b"{}"))
    for read in (lambda: read_log(store, "mnist"), lambda: list_logs(store)):
        with pytest.raises(DataFormatError, match=r"mnist\.json was written by an older mnist-bp.*--artifacts"):
            read()
    assert read_log(store, "kmnist").sequence == -1


# ---------------------------------------------------------------------------------------------------------------------
# requests

REQUESTS = {
    "champion": (2, 4, 0),
    "read logs": (2, 2, 0),
    "nightly: search": (3, 3, 0),
    "nightly: report": (2, 72, 0),
    "rollback": (1, 7, 1),
    "promote": (1, 9, 2),
    "keep": (1, 9, 2),
    "name: id": (0, 0, 0),
    "name: start": (1, 0, 0),
    "name: latest": (1, 0, 0),
    "name: champion": (2, 2, 0),
    "alias": (1, 5, 1),
    "name: alias": (2, 2, 0),
    "name: alias:dataset": (1, 2, 0),
}
"""Listings (a page each), reads and writes of each action; those of docs/stores.md."""

LOG_LISTINGS = {
    "champion": 2,
    "read logs": 2,
    "rollback": 1,
    "promote": 1,
    "keep": 1,
    "name: champion": 2,
    "alias": 1,
    "name: alias": 2,
    "name: alias:dataset": 1,
}
"""How many of the listings are of a log, and have a page for each 1,000 nights."""


class CountingStore(MemoryStore):
    """A store that counts the requests which S3 would need."""

    def __init__(self, *, conditional: bool = True) -> None:
        super().__init__(conditional=conditional)
        self.requests: Counter[str] = Counter()

    def count(self, action: Callable[[], object]) -> tuple[int, int, int]:
        """Return the listings, reads and writes of an action."""
        self.requests.clear()
        action()
        return self.requests["list"], self.requests["read"], self.requests["write"]

    def list_entries(self, prefix: str = "", page_size: int = PAGE_SIZE) -> Iterator[Entry]:
        entries = list(super().list_entries(prefix, page_size))
        self.requests["list"] += max(1, -(-len(entries) // page_size))
        return iter(entries)

    def get(self, key: str, sha256: str | None = None, size: int | None = None) -> bytes:
        self.requests["read"] += 1
        return super().get(key, sha256, size)

    def read(self, key: str) -> bytes | None:
        self.requests["read"] += 1
        return super().read(key)

    def put(self, key: str, source: Path | bytes, sha256: str) -> None:
        self.requests.update({"read": 1, "write": 1})
        super().put(key, source, sha256)


FIGURES = decide(LABELS, LABELS, LABELS, GateSettings()).figures


def grown(runs: int) -> CountingStore:
    """Return a store with a run of each day until the 23rd of November, of which some became champion in turn."""
    store = CountingStore()
    log = ChampionLog("mnist")
    for number in range(runs):
        day = datetime(2026, 11, 23, 2, tzinfo=UTC) - timedelta(days=runs - 1 - number)
        run_id = f"{day:%Y%m%dT%H%M%SZ}-00000000"
        digest = publish_model(store, run_id, 500).manifest_sha256
        promoted = number % 20 == 0
        entry = log.with_challenge(run_id, digest, "for a test", FIGURES)
        if promoted:
            entry = log.with_champion("promote", run_id, digest, "for a test")
        log = append(store, entry) or pytest.fail("another process")
        put_promotion(store, run_id, outcome="promoted" if promoted else "kept", entry=log.reference)
    return store


@pytest.mark.parametrize("runs", [100, 1_900])
def test_the_requests_of_a_command_do_not_grow_with_the_store(runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = grown(runs)
    config, night = RunConfig(dataset="mnist", seed=20261123), date(2026, 11, 23)
    monkeypatch.setattr("mnist_bp.registry.nightly.open_store", lambda _: store)
    run = publish_model(store, "20261123T030000Z-00000000", 1_000)
    actions: dict[str, Callable[[], object]] = {
        "champion": lambda: [report_on(store, dataset) for dataset in list_logs(store)],
        "read logs": lambda: read_logs(store),
        "nightly: search": lambda: find_identical_run(config, "0" * 16, days_of(night, night)),
        "nightly: report": lambda: recent_nights(store, "mnist", night),
        "rollback": lambda: roll_back(store, dataset="mnist"),
        "promote": lambda: challenge(store, run),
        "name: id": lambda: resolve_run(store, run.run_id),
        "name: start": lambda: resolve_run(store, "20261123T03"),
        "name: latest": lambda: resolve_run(store, "latest", now=datetime(2026, 11, 23, 12, tzinfo=UTC)),
        "name: champion": lambda: resolve_run(store, "champion"),
        "alias": lambda: move_alias(store, run.run_id, "best"),
        "name: alias": lambda: resolve_run(store, "best"),
        "name: alias:dataset": lambda: resolve_run(store, "best:mnist"),
    }
    counted = {name: store.count(action) for name, action in actions.items()}
    worse = publish_model(store, "20261123T040000Z-00000000", 1_000)
    counted["keep"] = store.count(lambda: challenge(store, worse))
    more_pages = (runs - 1) // PAGE_SIZE
    assert counted == {
        name: (lists + LOG_LISTINGS.get(name, 0) * more_pages, reads, writes)
        for name, (lists, reads, writes) in REQUESTS.items()
    }
    assert [read_promotion(store, each.run_id).outcome for each in (run, worse)] == ["promoted", "kept"]  # type: ignore[union-attr]


@pytest.mark.parametrize("runs", [10, 100])
def test_a_store_without_conditional_writes_costs_no_more_requests_as_it_grows(runs: int) -> None:
    store = CountingStore(conditional=False)
    for number in range(runs):
        challenge(store, publish_model(store, run_id_of(number), 500), allow_unsafe=False)
    run = publish_model(store, "20261124T030000Z-00000000", 1_000)
    store.requests.clear()
    assert challenge(store, run, allow_unsafe=False).outcome == "refused"
    assert store.requests == {"list": 1, "read": 4, "write": 1}


def test_the_runs_of_a_night_are_searched_from_the_day_before_it_until_today() -> None:
    night = date(2026, 11, 20)
    for today, first, last in (
        (night, date(2026, 11, 19), date(2026, 11, 21)),
        (date(2026, 11, 28), date(2026, 11, 19), date(2026, 11, 28)),
        (date(2027, 2, 1), date(2026, 12, 24), date(2027, 2, 1)),
    ):
        days = days_of(night, today)
        assert (days[0], days[-1]) == (first, last)
        assert len(days) == (last - first).days + 1
