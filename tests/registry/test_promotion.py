"""Promotion: which run becomes champion, in a directory and on every S3 server present, in races and after kills."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mnist_bp.config import RunConfig
from mnist_bp.data.parquet import load_split
from mnist_bp.documents.champion import GateFigures, PromotionRecord
from mnist_bp.engines.choose import choose_engine
from mnist_bp.errors import ChecksumError, DataFormatError, StoreError
from mnist_bp.layout import CHAMPION, MANIFEST, MODEL, PROMOTION, RUNS
from mnist_bp.model.parameters import Parameters, initial_parameters
from mnist_bp.registry.catalog import list_runs
from mnist_bp.registry.champion import append, read_log
from mnist_bp.registry.comparison import read_published_model
from mnist_bp.registry.gc import collect
from mnist_bp.registry.log_entries import entry_key
from mnist_bp.registry.promotion import promote_run
from mnist_bp.registry.promotion_record import read_promotion
from mnist_bp.registry.retention import RetentionPolicy
from mnist_bp.registry.rollback import roll_back
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.results.publication import PublishedRun
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from mnist_bp.storage.local import LocalStore
from mnist_bp.storage.reading import sha256_of_bytes
from mnist_bp.training.checkpoints import save_checkpoint
from mnist_bp.training.evaluation import Evaluator
from tests.support import published_runs
from tests.support.challenges import (
    challenge,
    promote_and_die,
    publish_model,
    race_promotions,
)
from tests.support.faulty_store import FaultyStore
from tests.support.memory_store import MemoryStore
from tests.support.published_runs import champions, changes, run_id_of
from tests.support.race import RACERS, exit_code_of

FIRST_ENTRY = entry_key("mnist", 0)
RESTART = "mnist-bp rollback RUN --restart-log --dataset mnist"


def recorded(store: Store, run_id: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(store.get(f"{RUNS}{run_id}/{PROMOTION}"))
    return document


def figures_of(promotion: PromotionRecord) -> GateFigures:
    assert promotion.figures is not None
    return promotion.figures


def replace_file(store: Store, key: str, content: bytes) -> None:
    store.delete(key)
    store.put(key, content, sha256_of_bytes(content))


class PromotionContract:
    """Claims about every kind of store. Subclasses provide the store and the number of rounds of a race."""

    rounds: int

    @pytest.fixture
    def address(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def store(self, address: str) -> Store:
        return open_store(address)

    def test_the_first_run_is_promoted_a_better_one_replaces_it_and_an_equal_one_does_not(self, store: Store) -> None:
        first, better, equal = (
            publish_model(store, name, right) for name, right in [("a", 100), ("b", 900), ("c", 900)]
        )
        found = [challenge(store, each) for each in (first, better, equal)]
        assert [each.outcome for each in found] == ["promoted", "promoted", "kept"]
        assert [each.champion_before for each in found] == [None, "a", "b"]
        assert [each.champion_after for each in found] == ["a", "b", "b"]
        assert figures_of(found[1]).challenger_alone_right == 800
        assert figures_of(found[2]).p_value == 1
        assert champions(store) == ["a", "b"]
        assert changes(store)[1].manifest_sha256 == better.manifest_sha256

    def test_the_decision_is_in_the_promotion_record_and_in_the_log(self, store: Store) -> None:
        for name, right in [("a", 100), ("b", 900), ("c", 500)]:
            promotion = challenge(store, publish_model(store, name, right))
            assert read_promotion(store, name) == promotion
            assert recorded(store, name)["reason"] == promotion.reason
        for change in changes(store):
            promotion = read_promotion(store, str(change.run_id)) or pytest.fail("not recorded")
            assert (promotion.figures, promotion.reason) == (change.figures, change.reason)
            assert promotion.at == change.at

    def test_a_recorded_decision_is_not_made_again(self, store: Store) -> None:
        runs = [publish_model(store, name, right) for name, right in [("a", 100), ("b", 900), ("c", 500)]]
        before = (
            [challenge(store, run) for run in runs],
            [recorded(store, run.run_id) for run in runs],
            [entry.key for entry in store.list_entries(CHAMPION)],
        )
        again = (
            [challenge(store, run) for run in runs],
            [recorded(store, run.run_id) for run in runs],
            [entry.key for entry in store.list_entries(CHAMPION)],
        )
        assert before == again

    def test_without_conditional_writes_the_champion_stays_unless_the_user_allows_it(self, store: Store) -> None:
        promotion = challenge(store, publish_model(store, "a", 100), allow_unsafe=False)
        if store.supports_conditional_writes():
            assert (promotion.outcome, figures_of(promotion).unsafe) == ("promoted", False)
            return
        assert (promotion.outcome, promotion.champion_after) == ("refused", None)
        assert "ignores conditional writes" in promotion.reason
        assert "--allow-unsafe-promotion" in promotion.reason
        assert list(store.list_entries(CHAMPION)) == []
        assert recorded(store, "a")["outcome"] == "refused"
        allowed = challenge(store, publish_model(store, "b", 100), allow_unsafe=True)
        assert (allowed.outcome, figures_of(allowed).unsafe) == ("promoted", True)

    def test_the_loser_of_an_entry_is_compared_with_the_new_champion(self, store: Store) -> None:
        if not store.supports_conditional_writes():
            pytest.skip("no process loses on a store that ignores conditional writes")
        challenge(store, publish_model(store, "a", 100))
        better, best = publish_model(store, "b", 500), publish_model(store, "c", 900)
        overtaken = FaultyStore(store, before={("put", 0): lambda: challenge(store, best)})
        promotion = challenge(overtaken, better)
        assert overtaken.keys_of("put") == [entry_key("mnist", 1), entry_key("mnist", 2), f"{RUNS}b/{PROMOTION}"]
        assert (promotion.outcome, promotion.champion_before) == ("kept", "c")
        assert champions(store) == ["a", "c"]

    def test_a_run_that_is_being_removed_does_not_become_champion(self, store: Store) -> None:
        challenge(store, publish_model(store, "a", 100))
        going = publish_model(store, "b", 900)
        assert append(store, read_log(store, "mnist").with_pending("delete", "for a test", ("b",)))
        with pytest.raises(StoreError, match="mnist-bp gc is removing it"):
            challenge(store, going)
        with pytest.raises(StoreError, match="mnist-bp gc is removing it"):
            roll_back(store, "b", allow_unsafe=True)
        assert read_promotion(store, "b") is None
        assert champions(store) == ["a"]

    @pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
    def test_a_promotion_that_is_killed_at_any_call_and_repeated_happens_once(
        self, before: bool, store: Store, address: str
    ) -> None:
        if not store.supports_conditional_writes():
            pytest.skip("refused on a store that ignores conditional writes")
        challenge(store, publish_model(store, "first", 0))
        calls, expected = 0, ["first"]
        while True:
            calls += 1
            name = f"run-{calls}"
            run = publish_model(store, name, 10 * calls)
            code = exit_code_of(promote_and_die, address, name, calls - 1, before)
            if code == 0:
                break
            assert code == -9
            written = changes(store)[-1]
            added = written.run_id == name
            promotion = challenge(store, run)
            expected.append(name)
            assert (promotion.outcome, promotion.champion_before) == ("promoted", expected[-2])
            assert champions(store) == expected
            assert promotion.at == (written.at if added else changes(store)[-1].at)
            assert read_promotion(store, name) == promotion
        assert calls > 5

    def test_a_promotion_killed_before_its_record_is_recorded_even_after_the_champion_has_changed(
        self, store: Store
    ) -> None:
        def stop() -> None:
            raise KeyboardInterrupt

        first, better = publish_model(store, "a", 100), publish_model(store, "b", 900)
        with pytest.raises(KeyboardInterrupt):
            challenge(FaultyStore(store, before={("put", 1): stop}), first)
        challenge(store, better)
        promotion = challenge(store, first)
        assert (promotion.outcome, promotion.champion_after) == ("promoted", "a")
        assert champions(store) == ["a", "b"]
        assert challenge(store, first) == promotion

    @pytest.mark.parametrize("content", [b"{", b"[]\n", b"\x00\xff", b'{"checksum": "?"}'])
    def test_an_invalid_entry_prevents_a_decision_and_the_message_says_how_to_repair_it(
        self, content: bytes, store: Store
    ) -> None:
        run = publish_model(store, "a", 100)
        store.put(FIRST_ENTRY, content, sha256_of_bytes(content))
        promotion = challenge(store, run)
        assert (promotion.outcome, promotion.figures, promotion.error) == ("refused", None, "DataFormatError")
        for part in (store.uri(FIRST_ENTRY), "restore it from a copy, or", RESTART, "--resume a"):
            assert part in promotion.reason
        assert store.get(FIRST_ENTRY) == content
        assert read_promotion(store, "a") is None
        assert roll_back(store, "a", restart_log=True, allow_unsafe=True).champion_after == "a"
        assert (store.get(FIRST_ENTRY), champions(store)) == (content, ["a"])
        assert challenge(store, publish_model(store, "b", 900)).champion_before == "a"

    def test_a_lost_log_makes_no_worse_run_champion(self, store: Store) -> None:
        challenge(store, publish_model(store, "a", 900))
        entry = store.get(FIRST_ENTRY)
        store.delete(FIRST_ENTRY)
        worse = publish_model(store, "b", 100)
        promotion = challenge(store, worse)
        assert (promotion.outcome, promotion.figures, promotion.error) == ("refused", None, "DataFormatError")
        for part in (store.uri(FIRST_ENTRY), "the promotion record of a names", RESTART, "--resume b"):
            assert part in promotion.reason
        assert read_promotion(store, "b") is None
        replace_file(store, FIRST_ENTRY, entry)
        assert challenge(store, worse).outcome == "kept"

    def test_the_record_of_another_run_names_the_lost_log(self, store: Store) -> None:
        challenge(store, publish_model(store, "a", 900))
        assert challenge(store, publish_model(store, "b", 100)).outcome == "kept"
        store.delete(FIRST_ENTRY)
        store.delete(entry_key("mnist", 1))
        store.delete(f"{RUNS}a/{PROMOTION}")
        assert "with champion a" in challenge(store, publish_model(store, "c", 100)).reason
        with pytest.raises(DataFormatError, match="with champion a; restore it"):
            roll_back(store, "a", allow_unsafe=True)
        assert roll_back(store, "a", restart_log=True, allow_unsafe=True).champion_after == "a"
        assert [entry.sequence for entry in changes(store)] == [2], "no number is used twice"

    def test_if_the_records_cannot_be_read_a_missing_log_prevents_a_decision(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        challenge(store, publish_model(store, "a", 900))
        store.delete(FIRST_ENTRY)
        worse = publish_model(store, "b", 100)
        read = type(store).read

        def refuse(self: Store, key: str) -> bytes | None:
            if key == f"{RUNS}a/{PROMOTION}":
                raise StoreError("the disk says no", transient=True)
            return read(self, key)

        monkeypatch.setattr(type(store), "read", refuse)
        with pytest.raises(StoreError, match="the disk says no"):
            challenge(store, worse)
        assert read(store, FIRST_ENTRY) is None

    def test_a_changed_byte_in_the_head_prevents_a_decision(self, store: Store) -> None:
        challenge(store, publish_model(store, "a", 100))
        content = store.get(FIRST_ENTRY)
        replace_file(store, FIRST_ENTRY, content.replace(b'"run_id": "a"', b'"run_id": "b"'))
        promotion = challenge(store, publish_model(store, "b", 900))
        assert (promotion.outcome, promotion.figures, promotion.error) == ("refused", None, "ChecksumError")
        replace_file(store, FIRST_ENTRY, content)
        assert challenge(store, read_published_model(store, "b")).outcome == "promoted"

    @pytest.mark.parametrize("name", [MANIFEST, MODEL])
    @pytest.mark.parametrize("missing", [True, False], ids=["missing", "damaged"])
    def test_a_champion_with_damaged_files_stays_until_it_is_repaired(
        self, name: str, missing: bool, store: Store
    ) -> None:
        challenge(store, publish_model(store, "a", 100))
        key, run = f"{RUNS}a/{name}", publish_model(store, "b", 900)
        content = store.get(key)
        if missing:
            store.delete(key)
        else:
            replace_file(store, key, content[:-1] + bytes([content[-1] ^ 1]))
        promotion = challenge(store, run)
        assert (promotion.outcome, promotion.champion_before, promotion.champion_after) == ("refused", "a", "a")
        for part in (
            "the champion of mnist, a, cannot be read",
            store.uri(f"{RUNS}a"),
            "restore its files",
            "--resume b",
        ):
            assert part in promotion.reason
        assert (champions(store), read_promotion(store, "b")) == (["a"], None)
        replace_file(store, key, content)
        assert challenge(store, run).outcome == "promoted"

    def test_a_changed_dataset_is_mentioned_in_the_reason(self, store: Store) -> None:
        challenge(store, publish_model(store, "a", 100, key="the-key-of-yesterday"))
        promotion = challenge(store, publish_model(store, "b", 900))
        assert promotion.outcome == "promoted"
        assert figures_of(promotion).champion_dataset_key == "the-key-of-yesterday"
        assert "which have changed since" in promotion.reason

    def test_a_run_that_was_made_champion_by_hand_before_its_challenge_stays_champion(self, store: Store) -> None:
        challenge(store, publish_model(store, "a", 900))
        run = publish_model(store, "b", 100)
        roll_back(store, "b", allow_unsafe=True)
        promotion = challenge(store, run)
        assert (promotion.outcome, promotion.champion_before) == ("promoted", "a")
        assert "by hand" in promotion.reason
        assert champions(store) == ["a", "b"]

    def test_of_16_simultaneous_promotions_one_wins_each_round(self, store: Store, address: str) -> None:
        if not store.supports_conditional_writes():
            pytest.skip("all processes win on a store that ignores conditional writes")
        levels = [[20 * number] * RACERS for number in range(1, self.rounds + 1)]
        started = time.perf_counter()
        rounds = race_promotions(address, levels)
        print(f"{len(rounds)} rounds of {RACERS} processes in {time.perf_counter() - started:.1f} s")
        history = changes(store)  # proves that the log has no gap and no fork
        assert len(history) == len(rounds) == self.rounds
        for change, promotions in zip(history, rounds, strict=True):
            (winner,) = [each for each in promotions if each.outcome == "promoted"]
            assert change.run_id == winner.run_id
            assert {each.champion_after for each in promotions} == {winner.run_id}
            assert {each.outcome for each in promotions if each is not winner} == {"kept"}
            assert all(read_promotion(store, each.run_id) == each for each in promotions)
            numbers = [figures_of(each).challenge for each in promotions if each is not winner]
            assert sorted(map(int, filter(None, numbers))) == list(range(1, RACERS)), "no two have the same number"

    def test_of_16_simultaneous_promotions_the_best_run_ends_as_champion(self, store: Store, address: str) -> None:
        if not store.supports_conditional_writes():
            pytest.skip("all processes win on a store that ignores conditional writes")
        (promotions,) = race_promotions(address, [[40 * place for place in range(RACERS)]])
        promoted = [each.run_id for each in promotions if each.outcome == "promoted"]
        assert champions(store)[-1] == promotions[-1].run_id
        assert champions(store) == sorted(promoted)  # the names sort as the models do


class TestPromotionInDirectory(PromotionContract):
    rounds = 50

    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return str(tmp_path / "artifacts")


class TestPromotionOnS3(PromotionContract):
    rounds = 3  # with MinIO, 50 take a minute

    @pytest.fixture
    def address(self, s3_bucket: str) -> str:
        return f"s3://{s3_bucket}/some/prefix"


# ---------------------------------------------------------------------------------------------------------------------
# real models on real images


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "artifacts")


Publisher = Callable[[str, Parameters[Any]], PublishedRun]


@pytest.fixture
def published(store: LocalStore, tmp_path: Path) -> Publisher:
    """Publish a model under a run id."""

    def put(run_id: str, model: Parameters[Any]) -> PublishedRun:
        content = Path(save_checkpoint(tmp_path / MODEL, [model], {}).path).read_bytes()
        published_runs.publish(store, run_id, "mnist-sample", contents={MODEL: content})
        digest = sha256_of_bytes(store.get(f"{RUNS}{run_id}/{MANIFEST}"))
        return PublishedRun(run_id, store.uri(run_id), store.uri(MANIFEST), digest, 2, 0)

    return put


def test_two_published_models_are_compared_on_the_test_images(sample: CachedDataset, published: Publisher) -> None:
    config = RunConfig(artifacts="artifacts", significance=1, class_floor=0)
    images, labels = load_split(sample.test)
    evaluator = Evaluator(choose_engine("cpu")[0], images, labels, config.recipe)
    models = sorted(
        (initial_parameters(seed, 784, hidden, 10) for seed, hidden in [(1, 30), (2, 40)]), key=evaluator.accuracy
    )
    first, second = (published(name, model) for name, model in zip("ab", models, strict=True))
    assert figures_of(promote_run(config, sample, first)).challenger_accuracy == evaluator.accuracy(models[0])
    figures = figures_of(promote_run(config, sample, second))
    assert figures.champion_accuracy == evaluator.accuracy(models[0])
    assert figures.challenger_accuracy == evaluator.accuracy(models[1])
    assert figures.test_images == len(labels)
    right = [[row[k] for k, row in enumerate(evaluator.confusion(model))] for model in models]
    assert figures.challenger_per_class == tuple(hits / 100 for hits in right[1])


def test_a_damaged_challenger_is_an_error(sample: CachedDataset, published: Publisher, store: LocalStore) -> None:
    run = published("a", initial_parameters(1, 784, 30, 10))
    path = Path(store.uri(f"{RUNS}a/{MODEL}"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ChecksumError, match=str(path)):
        promote_run(RunConfig(artifacts="artifacts"), sample, run)
    assert read_log(store, "mnist-sample").current is None


def test_a_damaged_promotion_record_is_an_error_until_it_is_deleted(store: LocalStore) -> None:
    run = publish_model(store, "a", 100)
    challenge(store, run)
    path = Path(store.uri(f"{RUNS}a/{PROMOTION}"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"promoted", b"refused "))
    with pytest.raises(ChecksumError, match="delete it and run with --resume a"):
        challenge(store, run)
    path.write_bytes(checksummed_json.dumps({"outcome": "promoted"}))
    with pytest.raises(DataFormatError, match="it has no promotion_version"):
        challenge(store, run)
    path.unlink()
    challenge(store, run)
    assert path.read_bytes() == content, "made from the log, byte for byte"


class CollectingStore(MemoryStore):
    """Runs a whole collection just before the next entry of a log is added."""

    armed = False

    def put(self, key: str, source: Path | bytes, sha256: str) -> None:
        if self.armed and key.startswith(CHAMPION):
            self.armed = False
            collect(self, Path("none"), RetentionPolicy(0, 1, timedelta()), now=datetime.now(UTC) + timedelta(days=9))
        super().put(key, source, sha256)


@pytest.mark.parametrize("rolled_back", [False, True], ids=["promotion", "rollback"])
def test_a_run_that_is_collected_while_it_becomes_champion_does_not(rolled_back: bool) -> None:
    store = CollectingStore()
    first, second = run_id_of(1), run_id_of(2)
    challenge(store, publish_model(store, first, 100))
    run = publish_model(store, second, 900)
    store.armed = True
    with pytest.raises(StoreError, match=rf"{second}"):
        roll_back(store, second) if rolled_back else challenge(store, run)
    assert not store.armed
    assert champions(store) == [first]
    assert [each.run_id for each in list_runs(store)] == [first]
