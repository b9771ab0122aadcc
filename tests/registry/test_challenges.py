"""Challenges are counted: one number each, in races, after kills, rollbacks, restarts and the deletion of runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mnist_bp.documents.champion import GateFigures, PromotionRecord
from mnist_bp.errors import StoreError
from mnist_bp.layout import CHAMPION, PROMOTION, RUNS
from mnist_bp.registry.champion import read_log
from mnist_bp.registry.champion_state import MAX_WITHSTOOD
from mnist_bp.registry.gc import collect
from mnist_bp.registry.log_entries import entry_key
from mnist_bp.registry.promotion_record import read_promotion
from mnist_bp.registry.retention import RetentionPolicy
from mnist_bp.registry.rollback import roll_back
from mnist_bp.registry.verify import verify
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.interface import Store
from mnist_bp.storage.reading import sha256_of_bytes
from tests.support.challenges import challenge, publish_model
from tests.support.faulty_store import FaultyStore, Killed, die
from tests.support.memory_store import MemoryStore
from tests.support.published_runs import champions, run_id_of


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def challenge_with(store: Store, number: int, right: int = 500) -> PromotionRecord:
    """Publish a run whose model classifies so many images correctly, and let it challenge the champion."""
    return challenge(store, publish_model(store, run_id_of(number), right))


def number_of(promotion: PromotionRecord) -> int | None:
    assert isinstance(promotion.figures, GateFigures)
    return promotion.figures.challenge


def rewrite(store: MemoryStore, key: str, version: str, number: int, without: tuple[str, ...]) -> None:
    """Make a document one of an earlier version, which did not have some fields."""
    document = checksummed_json.loads(store.get(key), "", "")

    def strip(value: Any) -> Any:
        return {k: strip(v) for k, v in value.items() if k not in without} if isinstance(value, dict) else value

    content = checksummed_json.dumps({**strip(document), version: number})
    store.files[key] = content, store.files[key][1]


def test_every_challenge_has_the_next_number_and_a_promotion_starts_again(store: MemoryStore) -> None:
    rights = [500, 500, 400, 500, 600, 500, 600]
    records = [challenge_with(store, number, right) for number, right in enumerate(rights)]
    assert [record.outcome for record in records] == ["promoted", *["kept"] * 3, "promoted", "kept", "kept"]
    assert [number_of(record) for record in records] == [None, 1, 2, 3, 4, 1, 2]
    assert [record.figures and record.figures.allowed_p for record in records[1:5]] == [
        0.05 / (number * (number + 1)) for number in range(1, 5)
    ]
    assert (read_log(store, "mnist").challenges, champions(store)) == (2, [run_id_of(0), run_id_of(4)])
    for number, record in enumerate(records):
        assert record.log_entry is not None
        assert record.log_entry.sequence == number
        assert record.champion_after == run_id_of(0 if number < 4 else 4)


def test_a_challenge_that_was_not_compared_is_not_counted(store: MemoryStore) -> None:
    challenge_with(store, 0)
    model = store.files.pop(f"{RUNS}{run_id_of(0)}/model.safetensors")
    assert challenge_with(store, 1).outcome == "refused"
    store.files[f"{RUNS}{run_id_of(0)}/model.safetensors"] = model
    assert number_of(challenge_with(store, 2)) == 1


@pytest.mark.parametrize("restarted", [False, True], ids=["rollback", "restart"])
def test_a_champion_that_is_chosen_by_hand_is_challenged_from_1_on(restarted: bool, store: MemoryStore) -> None:
    for number in range(4):
        challenge_with(store, number)
    if restarted:
        store.delete(entry_key("mnist", 1))
    roll_back(store, run_id_of(2), restart_log=restarted)
    assert number_of(challenge_with(store, 5)) == 1


def test_the_deletion_of_every_challenger_and_its_record_does_not_change_the_count(store: MemoryStore) -> None:
    for number in range(5):
        challenge_with(store, number)
    collect(store, Path("none"), RetentionPolicy(0, 1, timedelta()), now=datetime.now(UTC) + timedelta(days=9))
    assert {key.split("/")[1] for key in store.files if key.startswith(RUNS)} == {run_id_of(0)}
    assert number_of(challenge_with(store, 6)) == 5


def test_a_challenge_that_is_killed_before_its_record_is_counted_once_and_gets_the_same_record(
    store: MemoryStore,
) -> None:
    challenge_with(store, 0)
    killed = publish_model(store, run_id_of(1), 500)
    with pytest.raises(Killed):
        challenge(FaultyStore(store, before={("put", 1): die}), killed)
    assert (read_log(store, "mnist").challenges, read_promotion(store, run_id_of(1))) == (1, None)
    (finding,) = [check for check in verify(store, Path("none"), all_runs=True) if "--resume" in check.detail]
    assert finding.uri.endswith(f"{run_id_of(1)}/{PROMOTION}")
    assert number_of(challenge_with(store, 2)) == 2
    challenge_with(store, 3, 900)  # another champion
    record = challenge(store, killed)
    assert (record.outcome, number_of(record), record.champion_after) == ("kept", 1, run_id_of(0))
    assert read_promotion(store, run_id_of(1)) == record
    assert read_log(store, "mnist").challenges == 0


def test_a_challenge_whose_entry_was_replaced_makes_no_record(store: MemoryStore) -> None:
    challenge_with(store, 0)
    with pytest.raises(Killed):
        challenge(FaultyStore(store, before={("put", 1): die}), publish_model(store, run_id_of(1), 500))
    challenge_with(store, 2)
    challenge_with(store, 3)
    document = checksummed_json.loads(store.get(entry_key("mnist", 1)), "", "")
    content = checksummed_json.dumps({**document, "run_id": run_id_of(9)})
    store.files[entry_key("mnist", 1)] = content, datetime.now(UTC)
    record = challenge(store, publish_model(store, run_id_of(1), 500))
    assert (record.outcome, "was replaced; restore it" in record.reason) == ("refused", True)


def test_an_entry_repeats_the_last_challenges_only_and_an_older_one_counts_again(store: MemoryStore) -> None:
    challenge_with(store, 0)
    killed = publish_model(store, run_id_of(1), 500)
    with pytest.raises(Killed):
        challenge(FaultyStore(store, before={("put", 1): die}), killed)
    for number in range(2, 2 + MAX_WITHSTOOD):
        challenge_with(store, number)
    assert len(read_log(store, "mnist").withstood) == MAX_WITHSTOOD
    assert number_of(challenge(store, killed)) == MAX_WITHSTOOD + 2


def test_of_two_challenges_at_the_same_time_the_later_one_gets_the_next_number_and_its_limit(
    store: MemoryStore,
) -> None:
    challenge_with(store, 0)
    run = publish_model(store, run_id_of(1), 506)  # p = 1/64: enough as the first challenge, not as the second
    overtaken = FaultyStore(store, before={("put", 0): lambda: challenge_with(store, 2)})
    record = challenge(overtaken, run)
    assert (record.outcome, number_of(record)) == ("kept", 2)
    assert overtaken.keys_of("put") == [
        entry_key("mnist", 1),
        entry_key("mnist", 2),
        f"{RUNS}{run_id_of(1)}/{PROMOTION}",
    ]


def test_a_lost_reply_to_the_entry_of_a_challenge_counts_it_once(store: MemoryStore) -> None:
    def lose_the_reply() -> None:
        raise StoreError("no reply", transient=True)

    challenge_with(store, 0)
    run = publish_model(store, run_id_of(1), 500)
    with pytest.raises(StoreError, match="no reply"):
        challenge(FaultyStore(store, after={("put", 0): lose_the_reply}), run)
    assert number_of(challenge(store, run)) == 1
    assert read_log(store, "mnist").challenges == 1


def test_where_nothing_can_be_promoted_safely_a_challenge_is_not_counted_and_adds_no_entry() -> None:
    store = MemoryStore(conditional=False)
    challenge_with(store, 0)
    run = publish_model(store, run_id_of(1), 500)
    assert challenge(store, run, allow_unsafe=False).outcome == "kept"
    assert [key for key in store.files if key.startswith(CHAMPION)] == [entry_key("mnist", 0)]
    assert number_of(challenge_with(store, 2)) == 1
    assert number_of(challenge_with(store, 3)) == 2


def test_a_log_and_records_from_before_challenges_were_counted_are_read_and_the_count_begins(
    store: MemoryStore,
) -> None:
    challenge_with(store, 0)
    challenge_with(store, 1, 900)
    fields = ("challenges", "withstood", "challenge", "allowed_p")
    store.delete(entry_key("mnist", 0))
    entry = entry_key("mnist", 1)
    rewrite(store, entry, "entry_version", 1, fields)
    document = checksummed_json.loads(store.get(entry), "", "")
    moved = checksummed_json.dumps({**document, "sequence": 1, "start": 1})
    store.files[entry] = moved, store.files[entry][1]
    record = f"{RUNS}{run_id_of(1)}/{PROMOTION}"
    rewrite(store, record, "promotion_version", 3, (*fields, "log_entry"))
    old = read_promotion(store, run_id_of(1))
    assert old is not None
    assert (old.promotion_version, old.log_entry, number_of(old)) == (3, None, None)
    assert old.figures is not None
    assert old.figures.largest_p == 0.05
    assert (read_log(store, "mnist").sequence, read_log(store, "mnist").challenges) == (1, 0)
    assert number_of(challenge_with(store, 2)) == 1
    assert sha256_of_bytes(store.get(entry)) == sha256_of_bytes(moved), "an entry never changes"
